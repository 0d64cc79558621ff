//! Whether a program says that its device's memory did not suffice.

/// What libraries write when an allocation on a device fails.
const SIGNS: [&str; 23] = [
    // PyTorch. Its sentence alone may be anybody's prose; what follows it is not.
    "torch.OutOfMemoryError",
    "torch.cuda.OutOfMemoryError",
    "OutOfMemoryError: ",
    "CUDA out of memory. Tried to allocate",
    "HIP out of memory. Tried to allocate",
    "XPU out of memory. Tried to allocate",
    "MPS backend out of memory (",
    "CUDA error: out of memory",
    "HIP error: out of memory",
    "Cuda failure 'out of memory'",
    "Cuda failure 2 'out of memory'",
    // CUDA, HIP, Vulkan
    "CUDA_ERROR_OUT_OF_MEMORY",
    "cudaErrorMemoryAllocation",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "hipErrorOutOfMemory",
    "HIPBLAS_STATUS_ALLOC_FAILED",
    "ERROR_OUT_OF_DEVICE_MEMORY",
    // JAX and TensorFlow. The status alone may be about a quota.
    "RESOURCE_EXHAUSTED: Out of memory",
    "RESOURCE_EXHAUSTED: Failed to allocate",
    "OOM when allocating tensor",
    // bitsandbytes
    "Error out of memory at line",
    // llama.cpp
    "cudaMalloc failed: out of memory",
    "failed to allocate CUDA",
];

/// Longer lines are data.
const LONGEST: usize = 4096;

/// Whether a log line says that memory on a device ran out: as PyTorch, CUDA, HIP, JAX, TensorFlow, bitsandbytes or
/// llama.cpp say it.
///
/// Main memory is another matter, and so is text that speaks about such errors: where the words stand decides. Meant
/// for the log of an attempt that failed, as some programs recover and go on.
pub fn out_of_memory(line: &str) -> bool {
    let line = line.trim();
    if line.len() > LONGEST || line.starts_with(['{', '"', '\'']) {
        return false;
    }
    SIGNS.iter().any(|sign| line.match_indices(sign).any(|(at, _)| is_prefix(&line[..at])))
}

/// Whether a program's error can begin after this: after nothing, a stamp (`[rank0]:`, `2026-11-23 20:00:00 - ERROR -`),
/// a colon, or a box that was drawn around it.
fn is_prefix(before: &str) -> bool {
    let before = without_brackets(before);
    let is_stamp = |word: &str| !word.contains(char::is_lowercase);
    before.trim_end().ends_with([':', '=', '(', '|', '│', '❱']) || before.split_whitespace().all(is_stamp)
}

/// `(trainer pid=7) [rank0]: x` → ` : x`.
fn without_brackets(text: &str) -> String {
    let mut depth = 0;
    let outside = text.chars().filter(|letter| match letter {
        '(' | '[' => {
            depth += 1;
            false
        }
        ')' | ']' => {
            depth -= 1;
            false
        }
        _ => depth <= 0,
    });
    outside.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_say_it_in_many_ways() {
        for line in [
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.16 GiB. GPU 0 has a total capacity of 23.65 GiB of which 512.00 MiB is free.",
            "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 10.76 GiB total capacity)",
            "RuntimeError: CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 7.79 GiB total capacity)",
            "[rank1]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
            "[20:01:02] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
            "(trainer pid=812, ip=10.0.0.4) torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
            "2026-11-23 20:01:02,345 - ERROR - CUDA out of memory. Tried to allocate 2.00 GiB.",
            "│ OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. │",
            "ray.exceptions.RayTaskError(OutOfMemoryError): torch.OutOfMemoryError",
            "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 64.00 MiB. GPU 0",
            "RuntimeError: MPS backend out of memory (MPS allocated: 8.76 GB, other allocations: 352.00 KB, max allowed: 9.07 GB).",
            "RuntimeError: CUDA error: out of memory",
            "torch.AcceleratorError: CUDA error: out of memory",
            "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            "node1:812:901 [0] enqueue.cc:91 NCCL WARN: Cuda failure 2 'out of memory'",
            "E external/xla/stream_executor/cuda/cuda_driver.cc:1: failed to allocate 3.20G (3435973836 bytes) from device: CUDA_ERROR_OUT_OF_MEMORY: out of memory",
            "cupy_backends.cuda.api.runtime.CUDARuntimeError: cudaErrorMemoryAllocation: out of memory",
            "what():  HIP error: hipErrorOutOfMemory",
            "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes.",
            "tensorflow.python.framework.errors_impl.ResourceExhaustedError: OOM when allocating tensor with shape[64,1024]",
            "Error out of memory at line 380 in file /src/csrc/pythonInterface.cpp",
            "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 4096.00 MiB on device 0: cudaMalloc failed: out of memory",
            "ggml_gallocr_reserve_n: failed to allocate CUDA0 buffer of size 587202560",
        ] {
            assert!(out_of_memory(line), "{line}");
        }
    }

    #[test]
    fn what_only_speaks_of_it_does_not_count() {
        for line in [
            "",
            "out of memory",
            "If you run out of memory, use a smaller batch.",
            "What does CUDA out of memory mean, and what can I do about it?",
            "Answer: CUDA out of memory usually means that the batch is too large.",
            r#"{"instruction": "Explain: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "output": "…"}"#,
            "\"RuntimeError: CUDA error: out of memory\", he read aloud.",
            "The driver then returns CUDA_ERROR_OUT_OF_MEMORY to the caller.",
            "When a torch.OutOfMemoryError is raised, empty the cache.",
            "- handle torch.cuda.OutOfMemoryError in the loop",
            "google.api_core.exceptions.ResourceExhausted: RESOURCE_EXHAUSTED: Quota exceeded for requests",
            "MemoryError: Unable to allocate 3.2 GiB for an array with shape (1000, 1000)",
            "Memory cgroup out of memory: Killed process 812 (python)",
            "step 12/40 loss 1.2345 lr 2.00e-04 900 tokens/s",
            "内存不足 out of memory",
            ")]( ][",
        ] {
            assert!(!out_of_memory(line), "{line}");
        }
        assert!(!out_of_memory(&"torch.OutOfMemoryError ".repeat(1000)));
    }
}
