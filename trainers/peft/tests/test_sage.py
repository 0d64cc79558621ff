"""Whole trainings of a tiny model through the real `sage peft`, on the CPU. Run by `cargo xtask test --peft`."""

import json
import math
import os
import re
import signal
import subprocess
import time
import unittest

from safetensors.torch import load_file

from . import tiny

DEADLINE = 300
RECIPE = {
    "kind": "fine_tune",
    "num_epochs": 4,
    "batch_size": 4,
    "gradient_accumulation_steps": 1,
    "learning_rate": 5e-3,
    "max_length": 128,
    "load_in_8bit": False,
}


class Training:
    """One attempt's folder, in which `sage` may be run again and again."""

    def __init__(self, name: str, **settings):
        self.folder = tiny.path(name)
        os.makedirs(self.folder)
        data = tiny.preferences() if settings.get("objective") == "dpo" else tiny.alpaca()
        self.recipe = {**RECIPE, "model_name": tiny.model(), "dataset_file": data, **settings}

    def start(self, command="peft", gpus=1, **variables) -> subprocess.Popen:
        recipe = os.path.join(self.folder, "recipe.json")
        with open(recipe, "w") as file:
            json.dump(self.recipe, file)
        arguments = [tiny.SAGE, command, "--recipe", recipe, "--output", self.folder]
        environment = {**os.environ, "SAGE_GPUS": str(gpus), "CUDA_VISIBLE_DEVICES": "", **variables}
        with open(os.path.join(self.folder, "log"), "a") as log:
            return subprocess.Popen(arguments, env=environment, stdout=log, stderr=log)

    def run(self, expect=0, **options) -> "Training":
        code = self.start(**options).wait(DEADLINE)
        assert code == expect, f"{code}\n{self.log()}"
        return self

    def log(self) -> str:
        with open(os.path.join(self.folder, "log")) as file:
            return file.read()

    def events(self, kind: str) -> list[dict]:
        try:
            with open(os.path.join(self.folder, "metrics.jsonl")) as file:
                events = [json.loads(line) for line in file if line.endswith("\n")]
        except FileNotFoundError:
            return []
        return [event for event in events if event["event"] == kind]

    def losses(self) -> list[float]:
        return [event["loss"] for event in self.events("step")]

    def stop_after(self, step: int, gpus=1):
        """SIGTERM once so many steps are made."""
        process = self.start(gpus=gpus)
        deadline = time.monotonic() + DEADLINE
        while not any(event["step"] >= step for event in self.events("step")):
            assert process.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 143, self.log()

    def file(self, *names: str) -> str:
        return os.path.join(self.folder, *names)


class Sage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.plain = Training("plain", validation_split=0.2).run()

    def assert_close(self, one: list[float], other: list[float], places=4):
        self.assertEqual(len(one), len(other))
        for a, b in zip(one, other, strict=True):
            self.assertAlmostEqual(a, b, places)

    def test_an_adapter_in_pefts_layout_that_every_reader_takes(self):
        run = self.plain
        self.assertEqual(
            [event["total_steps"] for event in run.events("start")], [8], "8 of 10 examples, 4 a step, 4 epochs"
        )
        self.assertLess(run.losses()[-1], run.losses()[0] - 0.5)
        self.assertEqual([event["step"] for event in run.events("eval")], [2, 4, 6, 8])
        step = run.events("step")[0]
        self.assertGreater(step["tokens_per_second"] * step["seconds"] * step["grad_norm"], 0)
        (memory,), (probe,) = run.events("memory"), run.events("probe")
        self.assertGreater(memory["peak_bytes"], 1 << 26)
        self.assertGreater(probe["seconds_per_step"] * probe["tokens"], 0)
        self.assertEqual(run.events("end")[0]["adapter"], run.folder)

        tensors = load_file(run.file("adapter_model.safetensors"))
        self.assertEqual(len(tensors), 2 * 2 * 7)
        self.assertTrue(
            all(re.match(r"base_model\.model\.model\.layers\.\d.*\.lora_[AB]\.weight$", n) for n in tensors)
        )
        with open(run.file("adapter_config.json")) as file:
            config = json.load(file)
        projections = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
        self.assertEqual((config["target_modules"], config["inference_mode"]), (projections, True))
        # The built-in trainer's reader, and peft's own.
        answer = [
            tiny.SAGE,
            "generate",
            "--model",
            tiny.model(),
            "--adapter",
            run.folder,
            "--max-new-tokens",
            "4",
            "Hi",
        ]
        subprocess.run(answer, check=True, stdout=subprocess.DEVNULL)
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny.model()), run.folder)
        self.assertEqual(len([n for n, _ in model.named_parameters() if "lora_" in n]), len(tensors))

    def test_the_built_in_trainer_begins_with_the_same_loss(self):
        """The same tokens are masked: before anything is learnt, both see the same model."""
        settings = {"batch_size": 10, "num_epochs": 1, "max_length": 40}
        ours = Training("peft-first", **settings).run()
        built_in = Training("builtin-first", **settings).run(command="train")
        self.assert_close(ours.losses(), built_in.losses())

    def test_full_and_its_model(self):
        run = Training("full", method="full", learning_rate=1e-3).run()
        self.assertLess(run.losses()[-1], run.losses()[0] - 1)
        self.assertEqual(run.events("start")[0]["trainable_parameters"], self.parameters())
        files = os.listdir(run.file("model"))
        self.assertIn("model.safetensors", files)
        self.assertFalse([name for name in files if name.endswith((".bin", ".pt", ".pth", ".pkl"))])
        answer = [tiny.SAGE, "generate", "--model", run.file("model"), "--max-new-tokens", "4", "Hi"]
        subprocess.run(answer, check=True, stdout=subprocess.DEVNULL)

    def parameters(self) -> int:
        return sum(t.numel() for t in load_file(os.path.join(tiny.model(), "model.safetensors")).values())

    def test_preferences(self):
        for method, rate in (("lora", 5e-3), ("full", 1e-3)):
            run = Training(f"dpo-{method}", objective="dpo", method=method, learning_rate=rate, num_epochs=8).run()
            self.assertAlmostEqual(run.losses()[0], math.log(2), 4, "nothing is preferred yet")
            self.assertLess(run.losses()[-1], 0.5)

    def test_quantised_bases(self):
        for bits, most in ((8, 0.02), (4, 0.2)):
            run = Training(f"quantised-{bits}", validation_split=0.2, **{f"load_in_{bits}bit": True}).run()
            first, plain = run.losses()[0], self.plain.losses()[0]
            self.assertNotEqual(first, plain, "it is another model")
            self.assertLess(abs(first - plain), most)
            self.assertLess(run.losses()[-1], first - 0.5)

    def test_stopped_and_gone_on_it_ends_as_if_it_had_not_been(self):
        settings = {"num_epochs": 12, "gradient_accumulation_steps": 2, "batch_size": 2}
        for name, gpus, more in (
            ("lora", 1, {}),
            ("full-fsdp", 2, {"method": "full", "parallelism": "fsdp", "learning_rate": 1e-3}),
        ):
            with self.subTest(name):
                whole = Training(f"whole-{name}", **settings, **more).run(gpus=gpus)
                broken = Training(f"broken-{name}", **settings, **more)
                broken.stop_after(5, gpus)
                (stopped,) = broken.events("checkpoint")[-1:]
                self.assertGreaterEqual(stopped["step"], 5)
                self.assertEqual(broken.events("end"), [])
                broken.run(gpus=gpus)
                self.assertEqual(broken.events("start")[-1]["resumed_from_step"], stopped["step"])
                self.assert_close(whole.losses(), broken.losses(), 5)

    def test_after_memory_ran_out_it_goes_on_in_smaller_batches(self):
        run = Training("smaller", num_epochs=12)
        whole = Training("not-smaller", num_epochs=12).run()
        run.stop_after(4)
        run.recipe.update(batch_size=2, gradient_accumulation_steps=2, loss="hf", gradient_checkpointing=False)
        run.run()
        self.assert_close(whole.losses(), run.losses(), 3)

    def test_the_checkpoint_with_the_lowest_validation_loss_is_kept(self):
        # Learns its few examples by heart, and forgets the rest; most checkpoints fall between validations.
        settings = {"validation_split": 0.2, "learning_rate": 0.02, "schedule": "constant", "num_epochs": 12}
        run = Training("best", checkpoint_every_steps=5, **settings)
        run.stop_after(8)
        run.run()
        best = min(run.events("eval"), key=lambda event: event["loss"])
        self.assertLess(best["step"], 16, "the later ones are worse")
        kept = sorted(int(name.removeprefix("step-")) for name in os.listdir(run.file("checkpoints")))
        self.assertEqual((len(kept), kept[0], kept[-1]), (3, best["step"], 24))
        told = run.events("end")[0]["best"]
        self.assertEqual((told["step"], told["loss"]), (best["step"], best["loss"]))
        self.assertTrue(os.path.exists(os.path.join(told["path"], "adapter_model.safetensors")))
        self.assertIn(f"the checkpoint with the lowest validation loss is of step {best['step']}", run.log())

    def test_a_checkpoint_of_another_training_is_refused(self):
        run = Training("other", num_epochs=2).run()
        run.recipe.update(lora_rank=4)
        run.run(expect=1)
        (error,) = run.events("error")
        self.assertEqual(error["code"], "checkpoint-mismatch")
        self.assertIn("lora_rank is 8 there and 4 now", error["message"])
        self.assertIn("lora_rank", error["message_zh"])

    def test_several_processes_train_as_one_does(self):
        for parallelism, method, rate in (("ddp", "lora", 5e-3), ("fsdp", "lora", 5e-3), ("fsdp", "full", 1e-3)):
            with self.subTest(f"{parallelism} {method}"):
                settings = {
                    "method": method,
                    "validation_split": 0.2,
                    "parallelism": parallelism,
                    "learning_rate": rate,
                }
                several = Training(f"{parallelism}-{method}", **settings).run(gpus=2)
                alone = self.plain if method == "lora" else Training("alone-full", **settings).run()
                self.assert_close(alone.losses(), several.losses(), 3)
                evals = [[event["loss"] for event in run.events("eval")] for run in (alone, several)]
                self.assert_close(*evals, 3)
                self.assertEqual(len(several.events("start")), 1, "one speaks")

    def test_the_first_process_to_fail_says_why_and_ends_all(self):
        run = Training("fails", max_length=16).run(expect=1, gpus=2)
        (error,) = run.events("error")
        self.assertEqual(error["code"], "max-length-too-short")

    def test_what_cannot_be_trained_is_told_before_python_begins(self):
        run = Training("no-preferences", objective="dpo", dataset_file=tiny.alpaca()).run(expect=1)
        self.assertEqual(run.events("error")[0]["code"], "no-preference")
        run = Training("preferences", dataset_file=tiny.preferences()).run(expect=1)
        self.assertEqual(run.events("error")[0]["code"], "preference-data")
        run = Training("no-model", model_name="nothing").run(expect=1)
        self.assertEqual(run.events("error")[0]["code"], "model-unknown")

    def test_a_gpu_that_torch_cannot_use_is_told(self):
        run = Training("no-gpu").run(expect=1, CUDA_VISIBLE_DEVICES="GPU-00000000-0000-0000-0000-000000000000")
        self.assertEqual(run.events("error")[0]["code"], "peft-gpu-not-usable")


if __name__ == "__main__":
    unittest.main()
