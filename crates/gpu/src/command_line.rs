//! Command lines of strangers: shown without their secrets, and recognised if they are an inference server's.

/// Characters that are shown at most.
const LONGEST: usize = 200;
const HIDDEN: &str = "***";

/// For people to read: cut, and without what looks like a secret. `None`: the process has none, as kernel threads.
pub(crate) fn readable(arguments: &[String]) -> Option<String> {
    if arguments.is_empty() {
        return None;
    }
    let mut shown = Vec::new();
    let mut hide_next = false;
    for argument in arguments {
        let flag = argument.starts_with('-');
        if hide_next && !flag {
            shown.push(HIDDEN.to_owned());
            hide_next = false;
            continue;
        }
        // --api-key=…, and HF_TOKEN=… before a command.
        match argument.split_once('=') {
            Some((name, _)) if is_secret_name(name) => shown.push(format!("{name}={HIDDEN}")),
            _ if is_secret(argument) => shown.push(HIDDEN.to_owned()),
            _ => shown.push(without_password(argument)),
        }
        hide_next = flag && !argument.contains('=') && is_secret_name(argument);
    }
    let text = shown.join(" ").replace(|c: char| c.is_control(), " ");
    if text.chars().count() <= LONGEST {
        return Some(text);
    }
    Some(text.chars().take(LONGEST - 1).chain(['…']).collect())
}

fn is_secret_name(name: &str) -> bool {
    let name = name.trim_start_matches('-').to_ascii_lowercase().replace('_', "-");
    let words =
        ["token", "secret", "password", "passwd", "credential", "credentials", "auth", "apikey", "key", "authtoken"];
    // "--tokenizer" and "--max-tokens" are none, "--hf-token" is.
    !name.contains(char::is_whitespace) && name.split('-').any(|word| words.contains(&word))
}

/// Tokens that say themselves what they are.
fn is_secret(argument: &str) -> bool {
    let prefixes = ["hf_", "sk-", "ghp_", "github_pat_", "glpat-", "nvapi-", "eyJ"];
    argument.len() >= 20 && prefixes.iter().any(|prefix| argument.starts_with(prefix))
}

/// `https://user:word@host/` without user and word.
fn without_password(argument: &str) -> String {
    if let Some((scheme, rest)) = argument.split_once("://")
        && let Some((user, host)) = rest.split_once('@')
        && !user.contains('/')
    {
        return format!("{scheme}://{HIDDEN}@{host}");
    }
    argument.to_owned()
}

/// An inference server, by how it is started.
pub(crate) fn known_service(arguments: &[String]) -> Option<&'static str> {
    let program = arguments.first().map(|argument| argument.rsplit('/').next().unwrap_or(argument))?;
    let line = arguments.join(" ");
    let has = |words: &str| line.contains(words);
    if has("vllm.entrypoints") || has("vllm serve") || program.starts_with("VLLM::") {
        return Some("vLLM");
    }
    if has("sglang.launch_server") || has("sglang serve") || program.starts_with("sglang::") {
        return Some("SGLang");
    }
    if program == "ollama" || program == "ollama_llama_server" {
        return Some("Ollama");
    }
    if program == "llama-server" || has("llama_cpp.server") {
        return Some("llama.cpp");
    }
    if program == "text-generation-launcher"
        || program == "text-generation-router"
        || has("text-generation-server serve")
    {
        return Some("TGI");
    }
    if has("lmdeploy serve") || has("lmdeploy.serve") {
        return Some("LMDeploy");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn secrets_are_not_shown() {
        for (line, expected) in [
            ("vllm serve m --api-key abc --port 80", "vllm serve m --api-key *** --port 80"),
            ("serve --hf-token=abc --max-tokens 5", "serve --hf-token=*** --max-tokens 5"),
            ("env HF_TOKEN=abc python --tokenizer t", "env HF_TOKEN=*** python --tokenizer t"),
            ("p --password --verbose x", "p --password --verbose x"),
            ("p hf_0123456789abcdefghij https://ana:pw@host/x", "p *** https://***@host/x"),
            ("python train.py --tokenizer-path a --keys b", "python train.py --tokenizer-path a --keys b"),
        ] {
            assert_eq!(readable(&arguments(line)).as_deref(), Some(expected));
        }
        let long = readable(&arguments(&"语".repeat(300))).unwrap();
        assert_eq!(long.chars().count(), LONGEST);
        assert!(long.ends_with('…'));
        assert_eq!(readable(&[]), None);
    }

    #[test]
    fn servers_are_known_by_how_they_are_started() {
        for (line, service) in [
            ("python3 -m vllm.entrypoints.openai.api_server --model x", Some("vLLM")),
            ("/opt/bin/python /opt/bin/vllm serve Qwen/Qwen3-8B", Some("vLLM")),
            ("VLLM::EngineCore", Some("vLLM")),
            ("python -m sglang.launch_server --model-path x", Some("SGLang")),
            ("/usr/local/bin/ollama runner --model x", Some("Ollama")),
            ("./llama-server -m x.gguf", Some("llama.cpp")),
            ("text-generation-launcher --model-id x", Some("TGI")),
            ("python -m lmdeploy serve api_server x", Some("LMDeploy")),
            ("python train_with_vllm_data.py", None),
            ("vim ollama.txt", None),
        ] {
            assert_eq!(known_service(&arguments(line)), service, "{line}");
        }
    }
}
