//! A studio where people have to sign in, and those people.

use api_types::{NewAccount, NewToken, Quota};
use serde_json::Value;
use store::{Access, Accounts};

use crate::fixture::{Answer, Studio};

pub const PASSWORD: &str = "correct horse";

/// `olga` owns it, `ana` and `ben` are members, `vera` looks on.
pub fn studio(options: server::Options) -> Studio {
    let folder = tempfile::tempdir().unwrap();
    let home = domain::Home::new(folder.path().join("home"));
    std::fs::create_dir_all(home.root()).unwrap();
    drop(store::Writer::open(&home.database()).unwrap());
    let accounts = Accounts::open(&home.database()).unwrap();
    for (name, role) in [("olga", "owner"), ("ana", "member"), ("ben", "member"), ("vera", "viewer")] {
        let account = NewAccount {
            name: name.into(),
            password: Some(PASSWORD.into()),
            role: Some(role.into()),
            ..Default::default()
        };
        server::people::add(&accounts, account).unwrap();
    }
    Studio::open(server::Options { authentication: true, ..options }, Default::default(), folder)
}

/// Somebody at the studio, with a secret.
pub struct Person<'a> {
    pub studio: &'a Studio,
    pub secret: String,
}

pub fn sign_in(studio: &Studio, name: &str, password: &str) -> Answer {
    let form = format!("username={name}&password={}", password.replace(' ', "+"));
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    studio.request("POST", "/api/auth/login", &headers, form.as_bytes())
}

impl Studio {
    pub fn person(&self, name: &str) -> Person<'_> {
        let signed_in = sign_in(self, name, PASSWORD);
        assert_eq!(signed_in.status, 200, "{}", signed_in.text());
        Person { studio: self, secret: signed_in.json()["access_token"].as_str().unwrap().to_owned() }
    }

    pub fn accounts(&self) -> Accounts {
        Accounts::open(&self.home.database()).unwrap()
    }

    pub fn set_quota(&self, name: &str, quota: Quota) {
        let patch = serde_json::json!({ "quota": quota });
        let answer = self.person("olga").request("PATCH", &format!("/api/v1/accounts/{name}"), Some(&patch));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

impl<'a> Person<'a> {
    pub fn with_token(studio: &'a Studio, account: &str, scope: Access) -> Person<'a> {
        let token = NewToken { name: "t".into(), scope: scope.as_str().into(), expires_in_days: None, account: None };
        let created = server::people::create_token(&studio.accounts(), account, token, Access::Admin).unwrap();
        Person { studio, secret: created.secret }
    }

    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.secret)
    }

    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let bearer = self.bearer();
        let body = body.map(Value::to_string).unwrap_or_default();
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        self.studio.request(method, path, &headers, body.as_bytes())
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, None)
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path, None)
    }

    pub fn post(&self, path: &str, body: Value) -> Answer {
        self.request("POST", path, Some(&body))
    }

    /// Path of a valid data set of theirs.
    pub fn dataset(&self) -> String {
        let body = serde_json::json!({"filename": "data.jsonl", "content": crate::fixture::ROWS});
        let answer = self.post("/api/v1/datasets/paste", body);
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["path"].as_str().unwrap().to_owned()
    }

    pub fn submit(&self, model: &str, dataset: &str, hold: bool) -> Answer {
        let fine_tune = serde_json::json!({"model_name": model, "dataset_file": dataset});
        self.post("/api/v1/tasks", serde_json::json!({"fine_tune": fine_tune, "hold": hold}))
    }
}

/// Status and code of an error.
pub fn code(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
}
