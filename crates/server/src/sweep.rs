//! One task and the values of its parameters: the tasks of a group.

use std::collections::BTreeMap;

use api_types::{ArrayRange, CommandRequest, FineTuneRequest, SubmitGroup, SubmitTask};
use axum::http::StatusCode;
use domain::Recipe;
use serde_json::Value;

use crate::{
    error::{ApiError, Result},
    v1::recipe,
};

/// Tasks that a group has at most.
const LARGEST: u64 = 1000;

/// Short names of fields of a fine-tune.
const SHORT: [(&str, &str); 5] = [
    ("lr", "learning_rate"),
    ("rank", "lora_rank"),
    ("alpha", "lora_alpha"),
    ("epochs", "num_epochs"),
    ("batch", "batch_size"),
];

/// What one task of a group trains or runs, and what sets it apart from the others.
pub struct Member {
    pub recipe: Recipe,
    /// Such as `learning_rate=1e-4 lora_rank=8`.
    pub label: String,
}

/// In the order of the values, the last parameter changing fastest.
pub fn members(group: &SubmitGroup) -> Result<Vec<Member>> {
    let SubmitGroup { task: SubmitTask { fine_tune, command, .. }, over, array } = group;
    match (fine_tune, command, array, over.is_empty()) {
        (Some(request), None, None, false) => fine_tunes(request, over),
        (None, Some(command), None, false) => commands(command, over),
        (None, Some(command), Some(range), true) => indexed(command, *range),
        (Some(_), None, Some(_), true) => Err(ApiError::invalid(
            "array is for commands; sweep a fine-tune's fields with over, such as {\"seed\": [1, 2, 3]}",
            "array 只用于命令；微调请用 over 扫描参数，例如 {\"seed\": [1, 2, 3]}",
        )),
        (Some(_), Some(_), ..) | (None, None, ..) => Err(ApiError::invalid(
            "give exactly one of `fine_tune` and `command` in task",
            "task 中须且只能给出 `fine_tune` 和 `command` 之一",
        )),
        _ => Err(ApiError::invalid("give exactly one of `over` and `array`", "须且只能给出 `over` 和 `array` 之一")),
    }
}

fn fine_tunes(request: &FineTuneRequest, over: &BTreeMap<String, Vec<Value>>) -> Result<Vec<Member>> {
    let mut fields = BTreeMap::new();
    for (name, values) in over {
        let field = SHORT.iter().find(|(short, _)| short == name).map_or(name.as_str(), |(_, field)| field);
        if fields.insert(field, values.as_slice()).is_some() {
            return Err(ApiError::invalid(format!("over names {field} twice"), format!("over 中 {field} 出现了两次")));
        }
    }
    let member = |point: Point<'_>| {
        let set = |request, (field, value): &(&str, &Value)| set(request, field, value);
        let request = point.iter().try_fold(request.clone(), set)?;
        Ok(Member { recipe: Recipe::FineTune(recipe::fine_tune(request)?), label: label(&point)? })
    };
    points(&fields)?.into_iter().map(member).collect()
}

fn commands(command: &CommandRequest, over: &BTreeMap<String, Vec<Value>>) -> Result<Vec<Member>> {
    let mut variables = BTreeMap::new();
    for name in over.keys() {
        let wrong = name.starts_with(|first: char| first.is_ascii_digit())
            || name.is_empty()
            || !name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        if wrong {
            let detail = format!("over names {name:?}; a command's parameters have letters, digits and _");
            let zh = format!("over 中的名称 {name:?} 无法使用；命令的参数名由字母、数字和 _ 组成");
            return Err(ApiError::invalid(detail, zh));
        }
        if variables.insert(name.to_ascii_uppercase(), name).is_some() {
            return Err(ApiError::invalid(
                format!("over names {name} twice, in other letters"),
                format!("over 中 {name} 以不同的大小写出现了两次"),
            ));
        }
    }
    let over = over.iter().map(|(name, values)| (name.as_str(), values.as_slice())).collect();
    let member = |point: Point<'_>| {
        let values = point.iter().map(|(name, value)| Ok((*name, words(name, value)?)));
        let values = values.collect::<Result<Vec<_>>>()?;
        let variable =
            |(name, value): &(&str, String)| (format!("SAGE_PARAM_{}", name.to_ascii_uppercase()), value.clone());
        let command = filled(command, &values, values.iter().map(variable));
        Ok(Member { recipe: Recipe::Command(recipe::command(command)), label: label(&point)? })
    };
    points(&over)?.into_iter().map(member).collect()
}

fn indexed(command: &CommandRequest, ArrayRange { from, to }: ArrayRange) -> Result<Vec<Member>> {
    if to < from {
        return Err(ApiError::invalid(
            format!("array goes from {from} to {to}; begin with the smaller one"),
            format!("array 从 {from} 到 {to}；请从较小的数开始"),
        ));
    }
    let size = u64::from(to - from) + 1;
    at_most_largest(Some(size))?;
    let member = |index: u32| {
        let variables = [("SAGE_ARRAY_INDEX", index.to_string()), ("SAGE_ARRAY_SIZE", size.to_string())];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        let command = filled(command, &[("index", index.to_string())], variables.into_iter());
        Member { recipe: Recipe::Command(recipe::command(command)), label: format!("index={index}") }
    };
    Ok((from..=to).map(member).collect())
}

/// One combination: a value for each parameter.
type Point<'a> = Vec<(&'a str, &'a Value)>;

fn points<'a>(over: &BTreeMap<&'a str, &'a [Value]>) -> Result<Vec<Point<'a>>> {
    if let Some((name, _)) = over.iter().find(|(_, values)| values.is_empty()) {
        let zh = format!("over 中 {name} 没有取值");
        return Err(ApiError::invalid(format!("over has no values for {name}"), zh));
    }
    at_most_largest(over.values().try_fold(1u64, |size, values| size.checked_mul(values.len() as u64)))?;
    let mut points: Vec<Point<'a>> = vec![Vec::new()];
    for (name, values) in over {
        let longer = |point: &Point<'a>| {
            let point = point.clone();
            values.iter().map(move |value| point.iter().copied().chain([(*name, value)]).collect())
        };
        points = points.iter().flat_map(longer).collect();
    }
    Ok(points)
}

fn at_most_largest(size: Option<u64>) -> Result<()> {
    if size.is_some_and(|size| size <= LARGEST) {
        return Ok(());
    }
    let said = size.map_or_else(|| "more tasks than can be counted".to_owned(), |size| format!("{size} tasks"));
    let said_zh = size.map_or_else(|| "任务数量过大".to_owned(), |size| format!("共 {size} 个任务"));
    let detail = format!("the group would have {said}, and at most {LARGEST} are allowed");
    Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "group-too-large", detail)
        .zh(format!("{said_zh}，一组最多 {LARGEST} 个。请减少取值，或分几组提交"))
        .next("Give fewer values, or submit several groups"))
}

/// As a parameter that comes from a command line is text, text that reads as the field's own kind of value will do.
fn set(request: FineTuneRequest, field: &str, value: &Value) -> Result<FineTuneRequest> {
    let with = |value: Value| {
        let mut fields = serde_json::to_value(&request).expect("a request is plain data");
        fields[field] = value;
        serde_json::from_value(fields)
    };
    let read = |error| match value {
        Value::String(text) => serde_json::from_str(text).and_then(with).map_err(|_| error),
        _ => Err(error),
    };
    with(value.clone()).or_else(read).map_err(|error| {
        let zh = format!("over.{field} 无法使用：{error}。请改正参数名或取值，整组都没有提交");
        ApiError::invalid(format!("over.{field}: {error}"), zh)
            .next(format!("Correct {field} or its values; none of the group was taken"))
    })
}

fn label(point: &Point<'_>) -> Result<String> {
    let parts = point.iter().map(|(name, value)| Ok(format!("{name}={}", words(name, value)?)));
    Ok(parts.collect::<Result<Vec<_>>>()?.join(" "))
}

/// A value as people write it.
fn words(name: &str, value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(on) => Ok(on.to_string()),
        Value::Number(number) => Ok(match number.as_f64() {
            Some(figure) if number.is_f64() && figure != 0.0 && !(1e-3..1e6).contains(&figure.abs()) => {
                format!("{figure:e}")
            }
            _ => number.to_string(),
        }),
        Value::Array(items) => {
            let items = items.iter().map(|item| words(name, item)).collect::<Result<Vec<_>>>()?;
            Ok(items.join("+"))
        }
        Value::Null | Value::Object(_) => Err(ApiError::invalid(
            format!("over.{name} has {value}; use numbers, texts, true or false"),
            format!("over.{name} 的取值 {value} 无法使用；请用数字、文本、true 或 false"),
        )),
    }
}

/// With the values in its arguments and variables, and these variables besides.
fn filled(
    command: &CommandRequest,
    values: &[(&str, String)],
    variables: impl Iterator<Item = (String, String)>,
) -> CommandRequest {
    let mut env: BTreeMap<String, String> =
        command.env.iter().map(|(name, value)| (name.clone(), fill(value, values))).collect();
    env.extend(variables);
    CommandRequest { argv: command.argv.iter().map(|word| fill(word, values)).collect(), env, ..command.clone() }
}

/// Replaces `{name}` of known names; all other braces stay, and so do those that a value brings along.
fn fill(text: &str, values: &[(&str, String)]) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(brace) = rest.find('{') {
        let (before, from) = rest.split_at(brace);
        filled.push_str(before);
        let known = values.iter().find_map(|(name, value)| {
            let after = from[1..].strip_prefix(name)?.strip_prefix('}')?;
            Some((value, after))
        });
        rest = match known {
            Some((value, after)) => {
                filled.push_str(value);
                after
            }
            None => {
                filled.push('{');
                &from[1..]
            }
        };
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn group(body: Value) -> SubmitGroup {
        serde_json::from_value(body).unwrap()
    }

    fn refusal(body: Value) -> ApiError {
        members(&group(body)).err().expect("it is refused")
    }

    fn fine_tune(over: Value) -> Value {
        json!({"task": {"fine_tune": {"model_name": "m", "dataset_file": "d", "seed": 7}}, "over": over})
    }

    #[test]
    fn a_fine_tune_is_swept_over_every_combination() {
        let body = fine_tune(json!({"rank": [8, "16"], "lr": ["1e-4", 5e-5]}));
        let members = members(&group(body)).unwrap();
        let labels: Vec<&str> = members.iter().map(|member| member.label.as_str()).collect();
        assert_eq!(
            labels,
            [
                "learning_rate=1e-4 lora_rank=8",
                "learning_rate=1e-4 lora_rank=16",
                "learning_rate=5e-5 lora_rank=8",
                "learning_rate=5e-5 lora_rank=16"
            ]
        );
        let figures: Vec<(f64, u32, u64)> = members
            .iter()
            .map(|member| match &member.recipe {
                Recipe::FineTune(recipe) => (recipe.learning_rate, recipe.lora_rank, recipe.seed),
                Recipe::Command(_) => panic!("a command"),
            })
            .collect();
        assert_eq!(figures, [(1e-4, 8, 7), (1e-4, 16, 7), (5e-5, 8, 7), (5e-5, 16, 7)]);
    }

    #[test]
    fn a_command_gets_its_parameters_in_words_and_variables() {
        let command = json!({
            "argv": ["train", "--lr={lr}", "{\"lr\": {x}}", "{mode}"],
            "cwd": "/",
            "env": {"OUT": "/out/{lr}"},
        });
        let members =
            members(&group(json!({"task": {"command": command}, "over": {"lr": [0.1], "mode": ["{lr}"]}}))).unwrap();
        let [Member { recipe: Recipe::Command(command), label }] = &members[..] else { panic!("{}", members.len()) };
        assert_eq!(label, "lr=0.1 mode={lr}");
        assert_eq!(command.argv, ["train", "--lr=0.1", "{\"lr\": {x}}", "{lr}"], "unknown braces and values stay");
        let env: Vec<(&str, &str)> = command.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(env, [("OUT", "/out/0.1"), ("SAGE_PARAM_LR", "0.1"), ("SAGE_PARAM_MODE", "{lr}")]);
    }

    #[test]
    fn an_array_counts_from_the_first_to_the_last() {
        let command = json!({"argv": ["run", "part-{index}"], "cwd": "/"});
        let body = json!({"task": {"command": command}, "array": {"from": 3, "to": 4}});
        let members = members(&group(body)).unwrap();
        let said: Vec<String> = members
            .iter()
            .map(|member| match &member.recipe {
                Recipe::Command(command) => {
                    let variable = |name: &str| command.env[name].clone();
                    let (index, size) = (variable("SAGE_ARRAY_INDEX"), variable("SAGE_ARRAY_SIZE"));
                    format!("{} {} {index}/{size}", member.label, command.argv[1])
                }
                Recipe::FineTune(_) => panic!("a fine-tune"),
            })
            .collect();
        assert_eq!(said, ["index=3 part-3 3/2", "index=4 part-4 4/2"]);
    }

    #[test]
    fn what_makes_no_group_is_refused_with_what_would() {
        let unknown = refusal(fine_tune(json!({"learning": [1]})));
        assert!(
            unknown.detail.contains("learning") && unknown.detail.contains("`learning_rate`"),
            "{}",
            unknown.detail
        );
        let kind = refusal(fine_tune(json!({"rank": ["eight"]})));
        assert!(kind.detail.contains("over.lora_rank"), "{}", kind.detail);
        let detail = refusal(fine_tune(json!({"lr": [1], "learning_rate": [2]}))).detail;
        assert!(detail.contains("twice"), "{detail}");
        assert!(refusal(fine_tune(json!({"lr": []}))).detail.contains("no values"));
        let many: Vec<u32> = (0..1001).collect();
        assert_eq!(refusal(fine_tune(json!({"seed": many}))).code, "group-too-large");
        let wide: Vec<u32> = (0..70_000).collect();
        let product = json!({"a": wide, "b": wide, "c": wide, "d": wide});
        let command = json!({"command": {"argv": ["x"], "cwd": "/"}});
        assert_eq!(refusal(json!({"task": command, "over": product})).code, "group-too-large");
        let all = json!({"task": command, "array": {"from": 0, "to": u32::MAX}});
        assert_eq!(refusal(all).code, "group-too-large");
        assert!(refusal(json!({"task": command})).detail.contains("`over`"));
        assert!(refusal(json!({"task": command, "over": {"a-b": [1]}})).detail.contains("letters"));
    }
}
