//! `--sweep` and `--array`: one submission, many tasks.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{ArrayRange, CreatedGroup, SubmitGroup, SubmitTask};

use crate::{
    error::{CliError, Result},
    output,
    text::text,
};

/// The task as a group, if it is to be one.
pub fn group(task: &SubmitTask, sweep: &[String], array: Option<&str>) -> Result<Option<SubmitGroup>> {
    let array = array.map(range).transpose()?;
    let over = parameters(sweep)?;
    let wanted = array.is_some() || !over.is_empty();
    Ok(wanted.then(|| SubmitGroup { task: task.clone(), over, array }))
}

/// `lr=1e-4,5e-5` → the values as they were written, because the studio knows what kinds the fields are of.
fn parameters(words: &[String]) -> Result<BTreeMap<String, Vec<serde_json::Value>>> {
    let mut over = BTreeMap::new();
    for word in words {
        let (name, values) =
            word.split_once('=').filter(|(name, _)| !name.trim().is_empty()).ok_or_else(|| wrong(word))?;
        let values: Vec<&str> = values.split(',').map(str::trim).collect();
        if values.iter().any(|value| value.is_empty()) {
            return Err(wrong(word));
        }
        let values = values.into_iter().map(Into::into).collect();
        if over.insert(name.trim().to_owned(), values).is_some() {
            let sentence = text(format!("--sweep 中 {name} 出现了两次"), format!("--sweep names {name} twice"));
            return Err(CliError::usage("sweep-invalid", sentence)
                .next(text("把取值写在一起：名称=值1,值2", "write its values together: NAME=VALUE,VALUE")));
        }
    }
    Ok(over)
}

fn wrong(word: &str) -> CliError {
    CliError::usage(
        "sweep-invalid",
        text(format!("--sweep 无法理解 {word:?}"), format!("--sweep: {word:?} names no values")),
    )
    .next(text(
        "写成 名称=值1,值2，例如 --sweep lr=1e-4,5e-5 rank=8,16",
        "write NAME=VALUE,VALUE, for example --sweep lr=1e-4,5e-5 rank=8,16",
    ))
}

/// `0-9`
fn range(word: &str) -> Result<ArrayRange> {
    let parse = || {
        let (from, to) = word.split_once('-')?;
        Some(ArrayRange { from: from.trim().parse().ok()?, to: to.trim().parse().ok()? })
    };
    parse().filter(|range| range.from <= range.to).ok_or_else(|| {
        CliError::usage(
            "sweep-invalid",
            text(format!("--array 无法理解 {word:?}"), format!("--array: {word:?} is no range")),
        )
        .next(text("写成 首-尾，例如 --array 0-9", "write FIRST-LAST, for example --array 0-9"))
    })
}

/// A task and its values per line on stdout, the group on stderr.
pub fn announce(created: &CreatedGroup) -> Result<()> {
    let lines = created.tasks.iter().map(|task| {
        let label = task.group.as_ref().map_or("", |group| group.label.as_str());
        format!("{}  {}\n", task.task_id, output::plain(label))
    });
    output::print(&lines.collect::<String>())?;
    // What is said of many is said once.
    let members = created.tasks.iter().flat_map(|task| &task.warnings);
    let warnings = created.warnings.iter().chain(members).map(|warning| text(&warning.zh, &warning.en));
    for warning in warnings.collect::<BTreeSet<_>>() {
        eprintln!("{}: {warning}", text("注意", "note"));
    }
    let (group, count) = (&created.group, created.tasks.len());
    eprintln!(
        "{}",
        text(
            format!("任务组 {group}，共 {count} 个任务；查看：sage task show --group {group}"),
            format!("group {group} of {count} tasks; to look at it: sage task show --group {group}"),
        )
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_sweep_is_names_with_values() {
        let over = parameters(&words(&["lr=1e-4, 5e-5", "rank=8"])).unwrap();
        assert_eq!(json!(over), json!({"lr": ["1e-4", "5e-5"], "rank": ["8"]}));
        for bad in ["lr", "=1", "lr=", "lr=1,,2"] {
            assert_eq!(parameters(&words(&[bad])).unwrap_err().code, "sweep-invalid", "{bad:?}");
        }
        assert!(parameters(&words(&["lr=1", "lr=2"])).unwrap_err().sentence.contains("twice"));
    }

    #[test]
    fn several_parameters_follow_one_option() {
        use clap::Parser;
        let parse = |words: &str| crate::cli::Cli::try_parse_from(words.split(' '));
        let fine_tune = parse("sage task submit --sweep lr=1e-4,5e-5 rank=8,16 --model m --data d").unwrap();
        let crate::cli::Command::Task(super::super::super::Task::Submit(fine_tune)) = fine_tune.command else {
            panic!("a submission")
        };
        assert_eq!(fine_tune.sweep, ["lr=1e-4,5e-5", "rank=8,16"]);
        assert!(parse("sage task submit --sweep n=1,2 -- echo {n}").is_ok());
        assert!(parse("sage task submit --array 0-9 -- echo {index}").is_ok());
        assert!(parse("sage task submit --array 0-9 --model m --data d").is_err(), "an array is of commands");
        assert!(parse("sage task submit --sweep n=1 --follow -- echo").is_err(), "there is no one log");
    }

    #[test]
    fn an_array_is_a_range() {
        assert_eq!(range("0-9").unwrap(), ArrayRange { from: 0, to: 9 });
        for bad in ["", "3", "9-0", "a-b", "1-2-3", "-1"] {
            assert_eq!(range(bad).unwrap_err().code, "sweep-invalid", "{bad:?}");
        }
        assert!(group(&SubmitTask::default(), &[], None).unwrap().is_none());
    }
}
