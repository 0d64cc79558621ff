use domain::Allowance;
use jiff::{SignedDuration, Timestamp};
use store::{Access, Account, Accounts, By, Role, SESSION, Writer};

fn accounts() -> (tempfile::TempDir, Accounts, Account) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("studio.db");
    drop(Writer::open(&path).unwrap());
    let accounts = Accounts::open(&path).unwrap();
    let ana = accounts.create("ana", Some("hash"), Role::Member, &Allowance::default(), at(0)).unwrap();
    (folder, accounts, ana)
}

fn at(hour: i64) -> Timestamp {
    Timestamp::from_second(1_760_000_000).unwrap() + SignedDuration::from_hours(hour)
}

fn by(accounts: &Accounts, secret: u8, hour: i64) -> Option<By> {
    accounts.open_secret(&[secret; 32], at(hour)).unwrap().map(|opened| opened.by)
}

#[test]
fn a_session_lives_as_long_as_it_is_used() {
    let (_folder, accounts, ana) = accounts();
    let days = SESSION.as_hours() / 24;
    accounts.open_session(ana.id, &[1; 32], at(0)).unwrap();
    accounts.open_session(ana.id, &[2; 32], at(0)).unwrap();
    for day in 1..=2 * days {
        assert_eq!(by(&accounts, 1, 24 * day), Some(By::Session), "day {day}");
    }
    assert_eq!(by(&accounts, 2, 24 * days), None, "never used");
    assert_eq!(by(&accounts, 1, 24 * 3 * days), None);
    assert_eq!(by(&accounts, 9, 0), None);
    accounts.close_session(&[1; 32]).unwrap();
    assert_eq!(by(&accounts, 1, 0), None);
}

#[test]
fn a_new_password_ends_sessions_but_not_tokens_nor_the_machines_own() {
    let (_folder, accounts, ana) = accounts();
    accounts.open_machine_session(ana.id, &[1; 32], at(0)).unwrap();
    accounts.open_machine_session(ana.id, &[2; 32], at(0)).unwrap();
    accounts.open_session(ana.id, &[3; 32], at(0)).unwrap();
    let token = accounts.create_token(&ana, "ci", &[4; 32], Access::Submit, None, at(0)).unwrap();
    accounts.set_password(ana.id, "other").unwrap();
    let years = 24 * 3650;
    assert_eq!(by(&accounts, 1, 0), None, "of an earlier run of the studio");
    assert_eq!(by(&accounts, 2, years), Some(By::Machine));
    assert_eq!(by(&accounts, 3, 0), None);
    assert_eq!(by(&accounts, 4, years), Some(By::Token { id: token.id, scope: Access::Submit }));
    accounts.remove(ana.id).unwrap();
    assert_eq!((by(&accounts, 2, 0), by(&accounts, 4, 0)), (None, None));
    assert_eq!(accounts.tokens().unwrap(), []);
}

#[test]
fn a_token_ends_when_it_said_and_tells_when_it_was_used() {
    let (_folder, accounts, ana) = accounts();
    let token = accounts.create_token(&ana, "ci", &[1; 32], Access::Read, Some(at(10)), at(0)).unwrap();
    assert_eq!(accounts.tokens().unwrap(), std::slice::from_ref(&token));
    assert!(by(&accounts, 1, 9).is_some());
    assert_eq!(by(&accounts, 1, 10), None);
    assert_eq!(accounts.tokens().unwrap()[0].last_used_at, Some(at(9)));
    let other = accounts.create_token(&ana, "two", &[2; 32], Access::Read, None, at(0)).unwrap();
    accounts.revoke_token(token.id).unwrap();
    assert_eq!(accounts.tokens().unwrap(), [other], "numbers are not used twice");
}

#[test]
fn roles_and_quotas_are_kept() {
    let (_folder, accounts, ana) = accounts();
    let quota = Allowance { gpus: Some(2), gpu_hours_per_day: Some(1.5), ..Allowance::default() };
    accounts.set_allowance(ana.id, &quota).unwrap();
    accounts.set_role(ana.id, Role::Viewer).unwrap();
    let read = accounts.by_name("ana").unwrap().unwrap();
    assert_eq!((read.role, &read.allowance), (Role::Viewer, &quota));
    assert_eq!(accounts.allowances().unwrap()["ana"], quota);
    for role in Role::ALL {
        assert_eq!(Role::parse(role.as_str()), Some(role));
    }
    assert!(Access::Read < Access::Submit && Access::Submit < Access::Admin);
}

/// A database of the version before: whoever signed up first keeps all rights.
#[test]
fn accounts_of_older_versions_get_roles() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("studio.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    for migration in [
        include_str!("../src/migrations/0001_initial.sql"),
        include_str!("../src/migrations/0002_estimates.sql"),
        include_str!("../src/migrations/0003_queue.sql"),
        include_str!("../src/migrations/0004_terms.sql"),
    ] {
        old.execute_batch(migration).unwrap();
    }
    old.execute_batch(
        "INSERT INTO account (id, username, password_hash, created_at) VALUES
             (1, 'guest', NULL, 0), (2, 'machine', NULL, 0), (3, 'ana', 'hash', 0), (4, 'ben', 'hash', 0);
         INSERT INTO session (token_sha256, account, created_at) VALUES (zeroblob(32), 3, 0);
         PRAGMA user_version = 4;",
    )
    .unwrap();
    drop(old);
    drop(Writer::open(&path).unwrap());
    let accounts = Accounts::open(&path).unwrap();
    let roles: Vec<_> = accounts.list().unwrap().into_iter().map(|account| (account.username, account.role)).collect();
    let expected = [("ana", Role::Owner), ("ben", Role::Member), ("guest", Role::Member), ("machine", Role::Owner)];
    assert_eq!(roles, expected.map(|(name, role)| (name.to_owned(), role)));
    assert_eq!(accounts.open_secret(&[0; 32], at(0)).unwrap(), None, "people sign in again");
}
