"""The parts, one by one. Run by `cargo xtask test --peft`."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from sage_peft import __main__ as program
from sage_peft import checkpoint, data, loss, memory, model, optimizer
from sage_peft.events import Events, TrainingError
from sage_peft.recipe import Recipe

from . import tiny


class Printing(unittest.TestCase):
    def test_a_full_disk_ends_nothing(self):
        script = "from sage_peft.events import keep_printing; keep_printing(); print('x' * 10_000); print('y', flush=True)"
        with open("/dev/full", "w") as full:
            ended = subprocess.run([sys.executable, "-c", script], stdout=full, stderr=full, check=False)
        self.assertEqual(ended.returncode, 0)


class LinearCrossEntropy(unittest.TestCase):
    def compare(self, dtype, trained, rows, tolerance):
        """Chunked and plain: losses, and gradients when every row counts differently."""
        torch.manual_seed(1)
        hidden = torch.randn(rows, 24).to(dtype)
        weight = (torch.randn(91, 24) / 5).to(dtype)
        targets = torch.randint(0, 91, (rows,))
        counts = torch.rand(rows)
        results = []
        for chunked in (True, False):
            h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_(trained)
            if chunked:
                losses = loss.LinearCrossEntropy.apply(h, w, targets, True)
            else:
                losses = F.cross_entropy((h @ w.T).float(), targets, reduction="none")
            (losses * counts).sum().backward()
            results.append([losses, h.grad] + ([w.grad] if trained else []))
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)

    def test_equals_the_plain_loss_and_its_gradients(self):
        for rows in (1, loss.CHUNK, 2 * loss.CHUNK + 3):
            for trained in (False, True):
                with self.subTest(rows=rows, trained=trained):
                    self.compare(torch.float32, trained, rows, 2e-6)
                    self.compare(torch.bfloat16, trained, rows, 2e-2)

    def test_holds_no_logits(self):
        rows = 4 * loss.CHUNK
        seen = []
        logits = loss._logits
        loss._logits = lambda hidden, weight: seen.append(len(hidden)) or logits(hidden, weight)
        try:
            hidden = torch.randn(rows, 8, requires_grad=True)
            losses = loss.LinearCrossEntropy.apply(
                hidden, torch.randn(50, 8), torch.zeros(rows, dtype=torch.long), True
            )
            losses.sum().backward()
        finally:
            loss._logits = logits
        self.assertEqual(seen, [loss.CHUNK] * 4, "once each: the weight is frozen")


class Optimizer(unittest.TestCase):
    def test_the_learning_rate_rises_then_falls(self):
        def rates(schedule):
            recipe = Recipe(learning_rate=1.0, warmup_ratio=0.2, schedule=schedule)
            return [round(optimizer.learning_rate(recipe, done, 10), 4) for done in (0, 1, 2, 6, 9)]

        self.assertEqual(rates("linear"), [0.5, 1.0, 1.0, 0.5, 0.125])
        self.assertEqual(rates("cosine"), [0.5, 1.0, 1.0, 0.5, 0.0381])
        self.assertEqual(rates("constant"), [0.5, 1.0, 1.0, 1.0, 1.0])

    def run_adamw(self, dtype, rate, steps):
        torch.manual_seed(2)
        parameter = torch.nn.Parameter(torch.full((64, 512), 0.02, dtype=dtype))
        adamw = optimizer.adamw([parameter], 0.0, 7)
        adamw.param_groups[0]["lr"] = rate
        for _ in range(steps):
            parameter.grad = (1 + 0.1 * torch.randn(parameter.shape)).to(dtype)
            adamw.step()
        return parameter.detach().float()

    def test_sixteen_bits_learn_what_thirty_two_learn(self):
        # One step is an eighth of the distance to the next 16-bit number: rounded to the nearest, none would be made.
        rate = 1e-5
        wanted = self.run_adamw(torch.float32, rate, 50).mean() - 0.02
        moved = self.run_adamw(torch.bfloat16, rate, 50).mean() - torch.tensor(0.02).bfloat16().float()
        self.assertLess(abs(moved / wanted - 1), 0.05, f"{moved} {wanted}")

    def test_the_drawn_rounding_is_the_same_again_and_nothing_moves_without_a_rate(self):
        one, other = self.run_adamw(torch.bfloat16, 1e-4, 5), self.run_adamw(torch.bfloat16, 1e-4, 5)
        self.assertTrue(torch.equal(one, other))
        self.assertEqual(self.run_adamw(torch.bfloat16, 0.0, 2).unique().numel(), 1)


LLAMA3 = (
    "{{- bos_token }}{% for message in messages %}{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
# Shows reasoning for the last answer only, an empty one if there is none.
QWEN3 = (
    "{% set ns = namespace(last=0) %}{% for message in messages %}"
    "{% if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for message in messages %}{{- '<|im_start|>' + message.role + '\n' }}"
    "{% set parts = message.content.split('</think>') %}"
    "{% if message.role == 'assistant' and loop.index0 > ns.last %}"
    "{% set thought = parts[0].split('<think>')[-1].strip('\n') if parts | length > 1 else '' %}"
    "{{- '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}"
    "{{- parts[-1].lstrip('\n') + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}"
)


class Masks(unittest.TestCase):
    """The same expectations as the built-in trainer's."""

    @classmethod
    def setUpClass(cls):
        cls.tokenizer = model.load_tokenizer(tiny.model())

    def learnt(self, turns, template=None):
        encoder = data.Encoder(self.tokenizer)
        encoder.template = template or encoder.template
        roles = ("user", "assistant")
        messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
        sequence = encoder.encode(messages)
        stretches, before = [], False
        for token, answer in zip(sequence.ids, sequence.answer, strict=True):
            if answer and not before:
                stretches.append([])
            if answer:
                stretches[-1].append(token)
            before = answer
        return [self.tokenizer.decode(stretch) for stretch in stretches]

    def test_answers_are_learnt_with_their_end_token(self):
        turns = ["What is a plan?", "A plan says: 你好 👋 now.", "And now?", "What is a plan?"]
        expected = ["A plan says: 你好 👋 now.<|im_end|>", "What is a plan?<|im_end|>"]
        self.assertEqual(self.learnt(turns), expected)

    def test_trimmed_answers(self):
        # The tiny tokenizer does not know this end token, so it is not one.
        learnt = self.learnt(["Hi", "  A plan. \n", "Bye", "\n\nNow."], LLAMA3)
        self.assertEqual(learnt, ["A plan.", "Now."])

    def test_reasoning_is_learnt_where_the_template_shows_it(self):
        turns = ["Hi", "<think>\nold\n</think>\n\nA plan.", "Bye", "<think>\nnew\n</think>\n\nNow."]
        expected = ["A plan.<|im_end|>", "<think>\nnew\n</think>\n\nNow.<|im_end|>"]
        self.assertEqual(self.learnt(turns, QWEN3), expected)
        expected = ["A plan.<|im_end|>", "<think>\n\n</think>\n\nNow.<|im_end|>"]
        self.assertEqual(self.learnt(["Hi", "A plan.", "Bye", "Now."], QWEN3), expected)

    def test_a_template_that_refuses_is_named_with_its_example(self):
        encoder = data.Encoder(self.tokenizer)
        encoder.template = "{{ raise_exception('no system turns') }}"
        with self.assertRaises(TrainingError) as caught:
            encoder.example({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, 7)
        self.assertEqual(caught.exception.code, "chat-template")
        self.assertIn("example 7", str(caught.exception))
        self.assertIn("no system turns", str(caught.exception))

    def test_a_cut_example_counts_only_what_is_left(self):
        sequence = data.Sequence([1, 2, 3, 4], [False, False, True, True])
        self.assertEqual((sequence.needed_length, sequence.targets), (3, 2))
        self.assertTrue(sequence.truncate(3))
        self.assertFalse(sequence.truncate(2))
        self.assertIsNone(data.Sequence([1, 2], [True, False]).needed_length)

    def test_a_batch_predicts_each_answer_token_from_the_row_before(self):
        one = data.Example([data.Sequence([1, 2, 3], [False, True, True])])
        two = data.Example([data.Sequence([4, 5], [True, True])])
        batch = data.Batch.of([one, two], torch.device("cpu"))
        self.assertEqual(batch.ids.tolist(), [[1, 2, 3], [4, 5, 0]])
        self.assertEqual((batch.rows.tolist(), batch.targets.tolist()), ([0, 1, 3], [2, 3, 5]))
        self.assertEqual(batch.sequence.tolist(), [0, 0, 1])


class Model(unittest.TestCase):
    def batch(self):
        examples, dropped = data.read(tiny.examples(), data.Encoder(model.load_tokenizer(tiny.model())), 64)
        self.assertEqual(dropped, 0)
        return data.Batch.of(examples[:3], torch.device("cpu"))

    def gradients(self, **settings):
        torch.manual_seed(3)
        recipe = Recipe(load_in_8bit=False, **settings)
        losses = model.load(recipe, tiny.model(), torch.device("cpu"), torch.float32)
        for name, p in losses.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(p, std=0.01)
        total = losses(self.batch()).sum()
        total.backward()
        return total.detach(), {name: p.grad for name, p in checkpoint.trained(losses.model).items()}

    def test_every_trained_parameter_gets_the_same_gradient_however_the_loss_is_computed(self):
        for method in ("lora", "full"):
            with self.subTest(method=method):
                plain, wanted = self.gradients(method=method, loss="hf", gradient_checkpointing=False)
                self.assertTrue(all(gradient is not None and gradient.abs().sum() > 0 for gradient in wanted.values()))
                for settings in ({"loss": "chunked"}, {"loss": "fused", "gradient_checkpointing": False}, {}):
                    total, gradients = self.gradients(method=method, **settings)
                    torch.testing.assert_close(total, plain)
                    self.assertEqual(gradients.keys(), wanted.keys())
                    for name, gradient in gradients.items():
                        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-5, msg=name)

    def test_all_seven_projections_have_adapters_unless_named(self):
        for targets, count in (([], 7), (["q_proj", "v_proj"], 2)):
            recipe = Recipe(load_in_8bit=False, lora_targets=targets)
            losses = model.load(recipe, tiny.model(), torch.device("cpu"), torch.float32)
            self.assertEqual(len(checkpoint.trained(losses.model)), 2 * 2 * count)
        with self.assertRaises(TrainingError) as caught:
            recipe = Recipe(load_in_8bit=False, lora_targets=["no_proj"])
            model.load(recipe, tiny.model(), torch.device("cpu"), torch.float32)
        self.assertEqual(caught.exception.code, "setting-invalid")

    def test_scaled_logits_are_not_taken_apart(self):
        head = torch.nn.Linear(4, 9, bias=False)
        base = SimpleNamespace(get_output_embeddings=lambda: head, config=SimpleNamespace())
        self.assertTrue(loss.chunks_well(base))
        base.config.final_logit_softcapping = 30.0
        self.assertFalse(loss.chunks_well(base))

    def test_pickled_weights_are_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(tiny.model(), "config.json")) as file:
                config = file.read()
            with open(os.path.join(folder, "config.json"), "w") as file:
                file.write(config)
            torch.save({}, os.path.join(folder, "pytorch_model.bin"))
            with self.assertRaises(TrainingError) as caught:
                model.load(Recipe(load_in_8bit=False), folder, torch.device("cpu"), torch.float32)
        self.assertEqual(caught.exception.code, "model-file-damaged")
        self.assertIn("safetensors", str(caught.exception))


class Checkpoints(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.output = folder.name
        self.group = SimpleNamespace(rank=0, wait=lambda: None)
        recipe = Recipe(load_in_8bit=False)
        self.losses = model.load(recipe, tiny.model(), torch.device("cpu"), torch.float32)
        self.adamw = optimizer.adamw([p for p in self.losses.parameters() if p.requires_grad], 0.0, 1)

    def write(self, step, best):
        state = checkpoint.State(step=step, best=best)
        checkpoint.write(self.output, self.losses.model, self.adamw, state, self.group, 2)

    def kept(self):
        return [step for step, _ in checkpoint.found(self.output)]

    def resume(self):
        return checkpoint.resume(self.output, self.losses.model, self.adamw, {}, self.group)

    def test_the_best_is_kept_besides_the_newest_also_by_a_resumed_run(self):
        best = {"step": 2, "loss": 1.5}
        for step in range(1, 6):
            self.write(step, best if step > 1 else None)
        self.assertEqual(self.kept(), [2, 4, 5])
        state = self.resume()
        self.assertEqual((state.step, state.best), (5, best))
        self.write(6, state.best)
        self.assertEqual(self.kept(), [2, 5, 6])
        self.write(7, {"step": 7, "loss": 1.0})
        self.assertEqual(self.kept(), [6, 7], "there is a better one")

    def test_a_best_one_that_is_gone_is_forgotten(self):
        self.write(4, {"step": 2, "loss": 1.5})
        self.assertIsNone(self.resume().best)

    def test_of_an_earlier_version(self):
        self.write(4, None)
        path = os.path.join(self.output, "checkpoints", "step-4", checkpoint.STATE)
        with open(path) as file:
            state = json.load(file)
        del state["best"]
        with open(path, "w") as file:
            json.dump(state, file)
        self.assertEqual(self.resume().step, 4)


class Memory(unittest.TestCase):
    def test_running_out_is_recognised_and_reported(self):
        errors = {
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."): "out-of-device-memory",
            RuntimeError("CUDA error: out of memory"): "out-of-device-memory",
            RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"): "out-of-device-memory",
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"): "out-of-host-memory",
            MemoryError(): "out-of-host-memory",
            RuntimeError("mat1 and mat2 shapes cannot be multiplied"): None,
        }
        for error, code in errors.items():
            self.assertEqual(memory.ran_out(error), code, error)
        with tempfile.TemporaryDirectory() as folder:
            error = next(iter(errors))
            self.assertEqual(program.unexpected(error, Events(folder, speaks=False)), 1)
            with open(os.path.join(folder, "metrics.jsonl")) as file:
                event = json.loads(file.read())
        self.assertEqual((event["event"], event["code"]), ("error", "out-of-device-memory"))
        self.assertIn("2.00 GiB", event["message"])
        self.assertIn("显存", event["message_zh"])


if __name__ == "__main__":
    unittest.main()
