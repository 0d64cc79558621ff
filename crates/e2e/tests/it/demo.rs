//! The first command anybody runs.

use std::process::Command;

#[test]
fn the_demo_ends_with_three_adapters_and_a_tuned_answer() {
    let user_home = tempfile::tempdir().unwrap();
    let output = Command::new(client::testing::sage())
        .arg("demo")
        .env("HOME", user_home.path())
        .env("SAGE_LANG", "en")
        .env("SAGE_DISABLE_NVML", "1")
        .env_remove("SAGE_HOME")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.matches("adapter_model.safetensors").count(), 3, "{said}");
    assert!(said.contains("http://127.0.0.1:"), "{said}");
    assert_eq!(user_home.path().read_dir().unwrap().count(), 0, "the user's home is left alone");
}
