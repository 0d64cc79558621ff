//! `cargo xtask contract`: holds the running studio to openapi.json, with requests that schemathesis makes up.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use api_types::SubmitTask;
use clap::Args;
use client::{
    Endpoint,
    testing::{Options, Studio, wait_for},
};
use serde_json::{Value, json};

use crate::{bench, root, run};

const SCHEMATHESIS: &str = "schemathesis==4.32.5";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
                      response_headers_conformance";
/// Not asked: streams never end, and the last two say with a 5xx, as the first generation did, that something outside of
/// the studio is not there.
const LEFT_OUT: [&str; 4] = [
    "/api/v1/events",
    "/api/v1/tasks/{id}/log/stream",
    "/api/finetune/prepare-sage-docs",
    "/api/finetune/switch-model",
];

/// Fewer requests than this would show little.
const LEAST: u64 = 2000;

#[derive(Args)]
pub struct Contract {
    /// Requests made up for each operation, beside those that cover its description
    #[arg(long, default_value_t = 40)]
    cases: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// True if no answer was a server error, each was one that the description allows, and there were enough of them.
pub fn run(options: &Contract) -> bool {
    let Some(schemathesis) = install() else { return false };
    if !bench::build_sage() {
        return false;
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let document = root().join("openapi.json");
    println!("\n== as it is described");
    let ask = |config: &str, describe: &dyn Fn(&Studio) -> PathBuf| {
        ask(&schemathesis, &document, folder.path(), options, config, describe)
    };
    let as_described = ask("", &|_| document.clone());
    println!("\n== where people sign in");
    let signed_in = ask("[server]\nauthentication = true\n", &|_| document.clone());
    println!("\n== about what is there");
    let about_real = ask("", &|studio| {
        let mut description: Value =
            serde_json::from_slice(&fs::read(&document).expect("it is committed")).expect("JSON");
        name_what_is_there(&mut description, &furnish(studio));
        let path = folder.path().join("openapi.json");
        fs::write(&path, description.to_string()).expect("a temporary folder can be written");
        path
    });
    let all = [as_described, signed_in, about_real];
    let cases: u64 = all.iter().map(|asked| asked.cases).sum();
    println!("\n{cases} cases, at least {LEAST} are wanted");
    all.iter().all(|asked| asked.held && asked.cases > 0) && cases >= LEAST
}

/// What came of one studio.
struct Asked {
    held: bool,
    cases: u64,
}

/// In a folder of its own, once.
fn install() -> Option<PathBuf> {
    let folder = root().join("target/schemathesis");
    let program = folder.join("bin/schemathesis");
    if !program.exists() {
        let made = run::watched(python("python3", &["-m", "venv", &folder.display().to_string()])).0;
        let pip = folder.join("bin/python").display().to_string();
        if !made || !run::watched(python(&pip, &["-m", "pip", "install", "--quiet", SCHEMATHESIS])).0 {
            eprintln!("schemathesis could not be installed: it needs python3 with venv, and PyPI");
            return None;
        }
    }
    Some(program)
}

fn python(program: &str, arguments: &[&str]) -> Command {
    run::in_root(program, arguments)
}

fn ask(
    schemathesis: &Path,
    document: &Path,
    folder: &Path,
    options: &Contract,
    config: &str,
    describe: &dyn Fn(&Studio) -> PathBuf,
) -> Asked {
    let defaults = Options::default();
    let config = format!("{config}{}", defaults.config);
    let mut settings = Options { sage: bench::sage(), config, ..defaults }.env("SAGE_GPU_MOCK_COUNT", "2");
    settings = settings.env("SAGE_DOCS_URL", &format!("file://{}", document.display()));
    let studio = Studio::start_with(settings);
    let description = describe(&studio);
    let mut command = Command::new(schemathesis);
    command.current_dir(folder).arg("run").arg(description).args(["-u", &studio.address()]);
    command.args(["--phases", "examples,coverage,fuzzing", "-n", &options.cases.to_string(), "-c", CHECKS]);
    command.args(["--seed", &options.seed.to_string(), "--continue-on-failure", "--request-timeout", "10"]);
    command.args(["--warnings", "off", "--workers", "2", "--no-color"]);
    command.args(LEFT_OUT.iter().flat_map(|path| ["--exclude-path", path]));
    if let Some(token) = Endpoint::find(studio.home()).ok().and_then(|endpoint| endpoint.token) {
        command.args(["-H", &format!("Authorization: Bearer {token}")]);
    }
    let (held, said) = run::watched(command);
    Asked { held, cases: generated(&said) }
}

/// Of `Test cases:`, then `  2335 generated, 2335 passed`.
fn generated(said: &str) -> u64 {
    let counts = said.lines().skip_while(|line| line.trim() != "Test cases:").nth(1).unwrap_or_default();
    counts.split_once(" generated").and_then(|(count, _)| count.trim().replace(',', "").parse().ok()).unwrap_or(0)
}

/// Tasks in every state, a group, a data set: their ids, by the path parameter that takes them.
fn furnish(studio: &Studio) -> Vec<(&'static str, Vec<String>)> {
    let client = studio.client();
    let home = studio.home().root();
    let script = |text: &str| SubmitTask {
        command: Some(api_types::CommandRequest {
            argv: ["sh", "-c", text].map(str::to_owned).to_vec(),
            cwd: home.display().to_string(),
            ..api_types::CommandRequest::default()
        }),
        ..SubmitTask::default()
    };
    let submit = |task: SubmitTask| client.submit(&task).expect("the studio takes it").task_id;
    let (completed, failed) = (submit(script("echo done")), submit(script("exit 3")));
    let over = |id: &String| client.task(id).is_ok_and(|task| ["completed", "failed"].contains(&task.status.as_str()));
    wait_for("two tasks to end", Duration::from_secs(60), || (over(&completed) && over(&failed)).then_some(()));
    let running: Vec<String> = (0..2).map(|_| submit(script("sleep 600"))).collect();
    let mut tasks = vec![completed, failed];
    tasks.extend(running);
    tasks.extend((0..12).map(|_| submit(script("sleep 1"))));
    tasks.extend((0..4).map(|_| submit(SubmitTask { hold: true, ..script("true") })));
    vec![("/tasks/{id}", tasks.clone()), ("/groups/{id}", tasks), ("/gpus/{id}", vec!["0".into(), "1".into()])]
}

/// Lets the parameters of the description name what there is as often as anything else.
fn name_what_is_there(description: &mut Value, known: &[(&str, Vec<String>)]) {
    let paths = description["paths"].as_object_mut().expect("a description has paths");
    for (path, operations) in paths {
        let Some((_, ids)) = known.iter().find(|(part, _)| path.contains(part)) else { continue };
        let operations = operations.as_object_mut().expect("a path has operations");
        let parameters = operations.values_mut().filter_map(|operation| operation["parameters"].as_array_mut());
        for parameter in parameters.flatten().filter(|parameter| parameter["in"] == "path") {
            parameter["schema"] = json!({ "type": "string", "enum": ids });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_counted_and_none_are_no_cases() {
        let said = "Test Phases:\n  ok\n\nTest cases:\n  2335 generated, 2334 passed, 1 failed\n\nSeed: 1\n";
        assert_eq!(generated(said), 2335);
        assert_eq!(generated("No test cases were generated\n"), 0);
    }
}
