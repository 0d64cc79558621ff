//! What each route needs of whoever calls it, and what the audit log calls it. This is the one place where that is said.

use axum::http::Method;
use store::Access;

/// What a route asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: open to everybody whom the guard lets near.
    Nobody,
    /// Somebody who is signed in. What they see of others is the handler's to say.
    Read,
    /// A member; what they change is their own.
    Submit,
    /// The owner of the task `{id}`, or an owner of the studio, if only with the right to read.
    SeeTask,
    /// The owner of the task `{id}`, or an owner of the studio.
    OwnTask,
    /// An owner of the studio.
    Admin,
}

/// What is said about one method of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub need: Need,
    /// The word for it in the audit log; reading leaves no trace there.
    pub action: Option<&'static str>,
}

impl Need {
    /// The least access that can do it, if any is needed.
    pub fn access(self) -> Option<Access> {
        match self {
            Need::Nobody => None,
            Need::Read | Need::SeeTask => Some(Access::Read),
            Need::Submit | Need::OwnTask => Some(Access::Submit),
            Need::Admin => Some(Access::Admin),
        }
    }
}

const fn reads(need: Need) -> Rule {
    Rule { need, action: None }
}

const fn does(need: Need, action: &'static str) -> Rule {
    Rule { need, action: Some(action) }
}

#[rustfmt::skip]
const RULES: &[(Method, &str, Rule)] = &[
    (Method::GET,    "/health",                           reads(Need::Nobody)),
    (Method::GET,    "/api/openapi.json",                 reads(Need::Read)),
    (Method::POST,   "/api/auth/login",                   does(Need::Nobody, "sign-in")),
    (Method::POST,   "/api/auth/guest",                   does(Need::Nobody, "sign-in")),
    (Method::POST,   "/api/auth/logout",                  does(Need::Nobody, "sign-out")),
    (Method::POST,   "/api/auth/register",                does(Need::Admin, "account.add")),
    (Method::GET,    "/api/auth/me",                      reads(Need::Read)),

    (Method::GET,    "/api/v1/me",                        reads(Need::Read)),
    (Method::PUT,    "/api/v1/me/password",               does(Need::Read, "account.password")),
    (Method::GET,    "/api/v1/accounts",                  reads(Need::Admin)),
    (Method::POST,   "/api/v1/accounts",                  does(Need::Admin, "account.add")),
    (Method::PATCH,  "/api/v1/accounts/{name}",           does(Need::Admin, "account.change")),
    (Method::DELETE, "/api/v1/accounts/{name}",           does(Need::Admin, "account.remove")),
    // One's own; of others only for owners.
    (Method::GET,    "/api/v1/tokens",                    reads(Need::Read)),
    (Method::POST,   "/api/v1/tokens",                    does(Need::Read, "token.create")),
    (Method::DELETE, "/api/v1/tokens/{id}",               does(Need::Read, "token.revoke")),
    (Method::GET,    "/api/v1/audit",                     reads(Need::Admin)),

    (Method::GET,    "/api/v1/studio",                    reads(Need::Read)),
    (Method::GET,    "/api/v1/events",                    reads(Need::Read)),
    (Method::GET,    "/api/v1/devices",                   reads(Need::Read)),
    // Allocates memory of the GPUs.
    (Method::GET,    "/api/v1/gpus/doctor",               reads(Need::Submit)),
    (Method::GET,    "/api/v1/models",                    reads(Need::Read)),
    (Method::GET,    "/api/v1/presets",                   reads(Need::Read)),
    (Method::GET,    "/api/v1/recommendations",           reads(Need::Read)),
    (Method::POST,   "/api/v1/estimate",                  reads(Need::Read)),
    (Method::GET,    "/api/v1/queue",                     reads(Need::Read)),
    (Method::POST,   "/api/v1/queue/pause",               does(Need::Admin, "queue.pause")),
    (Method::POST,   "/api/v1/queue/drain",               does(Need::Admin, "queue.drain")),
    (Method::POST,   "/api/v1/queue/resume",              does(Need::Admin, "queue.resume")),
    (Method::POST,   "/api/v1/gpus/{id}/maintenance",     does(Need::Admin, "gpu.maintenance")),

    (Method::GET,    "/api/v1/tasks",                     reads(Need::Read)),
    (Method::POST,   "/api/v1/tasks",                     does(Need::Submit, "task.submit")),
    (Method::GET,    "/api/v1/tasks/{id}",                reads(Need::Read)),
    (Method::DELETE, "/api/v1/tasks/{id}",                does(Need::OwnTask, "task.delete")),
    (Method::PATCH,  "/api/v1/tasks/{id}",                does(Need::OwnTask, "task.change")),
    (Method::POST,   "/api/v1/tasks/{id}/cancel",         does(Need::OwnTask, "task.cancel")),
    (Method::POST,   "/api/v1/tasks/{id}/hold",           does(Need::OwnTask, "task.hold")),
    (Method::POST,   "/api/v1/tasks/{id}/release",        does(Need::OwnTask, "task.release")),
    // These delay other people's tasks.
    (Method::POST,   "/api/v1/tasks/{id}/next",           does(Need::Admin, "task.next")),
    (Method::POST,   "/api/v1/tasks/{id}/before",         does(Need::Admin, "task.before")),
    (Method::GET,    "/api/v1/tasks/{id}/download",       does(Need::OwnTask, "task.download")),
    (Method::GET,    "/api/v1/tasks/{id}/explain",        reads(Need::Read)),
    (Method::GET,    "/api/v1/tasks/{id}/journal",        reads(Need::Read)),
    (Method::GET,    "/api/v1/tasks/{id}/metrics",        reads(Need::Read)),
    (Method::GET,    "/api/v1/tasks/{id}/log",            reads(Need::SeeTask)),
    (Method::GET,    "/api/v1/tasks/{id}/log/stream",     reads(Need::SeeTask)),

    (Method::POST,   "/api/v1/groups",                    does(Need::Submit, "group.submit")),
    (Method::GET,    "/api/v1/groups/{id}",               reads(Need::Read)),
    // One's own, as the handlers see to, because its first task may be gone.
    (Method::DELETE, "/api/v1/groups/{id}",               does(Need::Submit, "group.delete")),
    (Method::POST,   "/api/v1/groups/{id}/cancel",        does(Need::Submit, "group.cancel")),
    (Method::POST,   "/api/v1/groups/{id}/hold",          does(Need::Submit, "group.hold")),
    (Method::POST,   "/api/v1/groups/{id}/release",       does(Need::Submit, "group.release")),

    // One's own; of others only for owners.
    (Method::GET,    "/api/v1/datasets",                  reads(Need::Read)),
    (Method::POST,   "/api/v1/datasets",                  does(Need::Submit, "dataset.upload")),
    (Method::POST,   "/api/v1/datasets/paste",            does(Need::Submit, "dataset.upload")),
    (Method::DELETE, "/api/v1/datasets/{filename}",       does(Need::Submit, "dataset.delete")),

    (Method::GET,    "/api/system/gpu-info",              reads(Need::Read)),
    (Method::POST,   "/api/finetune/create",              does(Need::Submit, "task.submit")),
    (Method::GET,    "/api/finetune/tasks",               reads(Need::Read)),
    (Method::GET,    "/api/finetune/tasks/{id}",          reads(Need::Read)),
    (Method::DELETE, "/api/finetune/tasks/{id}",          does(Need::OwnTask, "task.delete")),
    (Method::POST,   "/api/finetune/tasks/{id}/cancel",   does(Need::OwnTask, "task.cancel")),
    (Method::GET,    "/api/finetune/tasks/{id}/download", does(Need::OwnTask, "task.download")),
    (Method::POST,   "/api/finetune/upload-dataset",      does(Need::Submit, "dataset.upload")),
    (Method::POST,   "/api/finetune/prepare-sage-docs",   does(Need::Submit, "dataset.upload")),
    (Method::GET,    "/api/finetune/models",              reads(Need::Read)),
    (Method::GET,    "/api/finetune/models/base",         reads(Need::Read)),
    (Method::GET,    "/api/finetune/current-model",       reads(Need::Read)),
    (Method::POST,   "/api/finetune/switch-model",        does(Need::Admin, "model.serve")),
    (Method::POST,   "/api/finetune/use-as-backend",      does(Need::Admin, "model.serve")),
];

/// The rule for a route by the pattern that it matched. What is not in the table is for owners, unless it only reads.
pub fn rule(method: &Method, path: Option<&str>) -> Rule {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let listed = RULES.iter().find(|(listed, pattern, _)| listed == method && Some(*pattern) == path);
    match listed {
        Some((_, _, rule)) => *rule,
        // No handler answers these, whoever asks.
        None if path.is_none() || matches!(*method, Method::GET | Method::OPTIONS) => reads(Need::Read),
        None => does(Need::Admin, "other"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_in_the_table_and_nothing_else() {
        let document = serde_json::to_value(crate::openapi()).unwrap();
        let mut routes = BTreeSet::from([("GET".to_owned(), "/api/openapi.json".to_owned())]);
        for (path, methods) in document["paths"].as_object().unwrap() {
            routes.extend(methods.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())));
        }
        let listed: Vec<_> = RULES.iter().map(|(method, path, _)| (method.to_string(), (*path).to_owned())).collect();
        let table: BTreeSet<_> = listed.iter().cloned().collect();
        assert_eq!(table.len(), listed.len(), "a route is listed twice");
        let missing: Vec<_> = routes.difference(&table).collect();
        assert!(missing.is_empty(), "say in access.rs what these need: {missing:?}");
        let gone: Vec<_> = table.difference(&routes).collect();
        assert!(gone.is_empty(), "these are no routes: {gone:?}");
    }

    #[test]
    fn what_changes_something_needs_more_than_looking_on_and_is_written_down() {
        for (method, path, rule) in RULES {
            if *method != Method::GET && *path != "/api/v1/estimate" {
                assert!(rule.action.is_some(), "{method} {path}");
            }
            let own_account = path.starts_with("/api/v1/tokens") || path.starts_with("/api/v1/me/");
            if rule.action.is_some() && !path.starts_with("/api/auth/") && !own_account {
                assert!(rule.need.access() >= Some(Access::Submit), "{method} {path}");
            }
        }
        assert_eq!(rule(&Method::DELETE, Some("/api/v1/not-listed")).need, Need::Admin);
        assert_eq!(rule(&Method::HEAD, Some("/api/v1/accounts")).need, Need::Admin);
    }
}
