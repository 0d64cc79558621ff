//! `openapi.json` at the repository root is what the page's client is generated from.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

pub fn the_committed_description_is_the_served_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi.json");
    let now = server::openapi().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("SAGE_UPDATE_OPENAPI").is_some_and(|value| value == "1") {
        std::fs::write(&path, &now).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == now, "openapi.json is out of date: run the test again with SAGE_UPDATE_OPENAPI=1");

    let studio = crate::fixture::Studio::start();
    let served = studio.get("/api/openapi.json");
    assert_eq!(served.json(), serde_json::from_str::<Value>(&committed).unwrap());
}

pub fn schemas_are_complete_and_operations_have_names() {
    let document = serde_json::to_value(server::openapi()).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let mut referred = BTreeSet::new();
    references(&document, &mut referred);
    assert!(referred.len() > 20);
    for name in &referred {
        let name = name.strip_prefix("#/components/schemas/").expect(name);
        assert!(schemas.contains_key(name), "{name} is not described");
    }
    let mut operations = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(operations.insert(id.to_owned()), "{method} {path}: operationId {id} is taken");
        }
    }
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(reference)) = object.get("$ref") {
                found.insert(reference.clone());
            }
            object.values().for_each(|value| references(value, found));
        }
        Value::Array(array) => array.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}
