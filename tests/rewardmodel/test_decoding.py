"""Drawing tokens over a cache of fixed size: the same as transformers' generate, which is the oracle here."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, TopPLogitsWarper

from rewardmodel.compute import Compute
from rewardmodel.decoding import can_record, copy_weights, draw_tokens, make_choice, open_sampler

PAD, END = 0, 2
CPU = Compute(device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, pad_token_id=PAD, eos_token_id=END, initializer_range=0.6,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def prompts() -> tuple[torch.Tensor, torch.Tensor]:
    """Three prompts of 5, 3 and 1 tokens, padded on the left."""
    ids = torch.tensor([[5, 9, 11, 30, 7], [PAD, PAD, 12, 8, 33], [PAD, PAD, PAD, PAD, 21]])
    return ids, (ids != PAD).long()


def generate(model: LlamaForCausalLM, ids: torch.Tensor, mask: torch.Tensor, *, stops: list[int]) -> torch.Tensor:
    config = GenerationConfig(do_sample=False, max_new_tokens=20, pad_token_id=PAD, eos_token_id=stops)
    return model.generate(input_ids=ids, attention_mask=mask, generation_config=config)[:, ids.shape[1] :]


def draw(
    model: LlamaForCausalLM, ids: torch.Tensor, mask: torch.Tensor, *, stops: list[int], record: bool = False
) -> torch.Tensor:
    choose = make_choice(temperature=0, top_p=1)
    return draw_tokens(
        model, ids=ids, mask=mask, count=20, choose=choose, stops=stops, pad_id=PAD, record=record
    )  # fmt: skip


class TestDraw:
    def test_greedy_tokens_are_those_of_generate(
        self, model: LlamaForCausalLM, prompts: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        expected = generate(model, *prompts, stops=[END])
        assert expected.shape == (3, 20)
        assert torch.equal(draw(model, *prompts, stops=[END]), expected)

    def test_nothing_follows_a_stop_token(
        self, model: LlamaForCausalLM, prompts: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        free = generate(model, *prompts, stops=[END])
        stops = [int(free[0, 4]), int(free[1, 6])]
        expected = generate(model, *prompts, stops=stops)
        assert not torch.equal(expected, free[:, : expected.shape[1]])
        drawn = draw(model, *prompts, stops=stops)
        assert torch.equal(drawn[:, : expected.shape[1]], expected)
        assert bool((drawn[:, expected.shape[1] :] == PAD).all())

    def test_a_prompt_is_answered_as_it_is_alone(
        self, model: LlamaForCausalLM, prompts: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        ids, mask = prompts
        together = draw(model, ids, mask, stops=[END])
        assert torch.equal(draw(model, ids[1:2, 2:], mask[1:2, 2:], stops=[END]), together[1:2])

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="recording needs a GPU")
    def test_recorded_tokens_are_the_same(
        self, model: LlamaForCausalLM, prompts: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        ids, mask = (part.to("cuda") for part in prompts)
        placed = copy_weights(model, dtype=torch.float32).to("cuda")
        recorded = draw(placed, ids, mask, stops=[END], record=True)
        assert torch.equal(recorded, draw(placed, ids, mask, stops=[END]))
        assert torch.equal(recorded.cpu(), generate(model, *prompts, stops=[END]))


class TestChoice:
    def test_temperature_and_nucleus_shape_what_is_drawn(self) -> None:
        """Logits ln 4, ln 2, ln 2, 0 at temperature 0.5 are weights 16, 4, 4, 1: 0.64, 0.16, 0.16, 0.04. A nucleus of
        0.7 holds the first and one more: 0.8 and 0.2."""
        logits = torch.log(torch.tensor([[4.0, 2.0, 1.9, 1.0]])).repeat(20_000, 1)
        torch.manual_seed(0)
        drawn = make_choice(temperature=0.5, top_p=0.7)(logits)
        shares = torch.bincount(drawn, minlength=4) / len(drawn)
        kept = TopPLogitsWarper(top_p=0.7)(None, logits[:1] / 0.5).softmax(-1)[0]
        assert kept.tolist() == pytest.approx([0.8, 0.2, 0, 0], abs=1e-6)
        assert shares.tolist() == pytest.approx([0.8, 0.2, 0, 0], abs=0.01)

    def test_temperature_zero_takes_the_likeliest(self) -> None:
        assert make_choice(temperature=0, top_p=0.3)(torch.tensor([[0.0, 2.0, 1.0]])).tolist() == [1]


class TestSampler:
    def test_a_copy_has_the_adapters_in_its_weights(self, model: LlamaForCausalLM) -> None:
        torch.manual_seed(1)
        adapted = get_peft_model(
            copy_weights(model, dtype=torch.float32), LoraConfig(r=2, target_modules="all-linear", lora_alpha=8)
        )
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_B" in name:
                    parameter.normal_()
        ids = torch.tensor([[5, 9, 11, 30, 7]])
        with torch.no_grad():
            twin = copy_weights(adapted, dtype=torch.float32)
            expected, plain = adapted(ids).logits, model(ids).logits
            assert torch.allclose(twin(ids).logits, expected, atol=1e-4)
            assert not torch.allclose(expected, plain, atol=1e-2)
            next(iter(twin.parameters())).zero_()
            assert torch.equal(adapted(ids).logits, expected)

    def test_a_copy_in_bfloat16_keeps_its_rotations_in_float32(self, model: LlamaForCausalLM) -> None:
        twin = copy_weights(model, dtype=torch.bfloat16)
        assert {parameter.dtype for parameter in twin.parameters()} == {torch.bfloat16}
        assert twin.model.rotary_emb.inv_freq.dtype == torch.float32
        assert twin.lm_head.weight is not model.lm_head.weight

    def test_tied_weights_stay_tied(self) -> None:
        tied = LlamaForCausalLM(LlamaConfig(
            vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=4,
            tie_word_embeddings=True,
        ))  # fmt: skip
        twin = copy_weights(tied, dtype=torch.bfloat16)
        assert twin.lm_head.weight is twin.model.embed_tokens.weight

    def test_on_a_cpu_the_model_itself_is_drawn_from(self, model: LlamaForCausalLM) -> None:
        assert not can_record(model, compute=CPU)
        assert open_sampler(model, compute=CPU) is model

    def test_adapters_that_are_off_are_left_out_and_several_are_added(self, model: LlamaForCausalLM) -> None:
        adapted = get_peft_model(
            copy_weights(model, dtype=torch.float32), LoraConfig(r=2, target_modules="all-linear", lora_alpha=8)
        )
        adapted.add_adapter("other", LoraConfig(r=2, target_modules="all-linear", lora_alpha=8))
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_B" in name:
                    parameter.normal_()
        ids = torch.tensor([[5, 9, 11, 30, 7]])
        adapted.base_model.set_adapter(["default", "other"])
        with torch.no_grad():
            assert torch.allclose(
                copy_weights(adapted, dtype=torch.float32)(ids).logits, adapted(ids).logits, atol=1e-4
            )
            with adapted.disable_adapter():
                plain = copy_weights(adapted, dtype=torch.float32)
            assert torch.allclose(plain(ids).logits, model(ids).logits, atol=1e-5)

    def test_a_copy_of_a_compiled_model_reads_its_own_weights(self, model: LlamaForCausalLM) -> None:
        compiled = copy_weights(model, dtype=torch.float32)
        for layer in compiled.model.layers:
            layer.forward = layer.forward  # as a compiled one is put there
        twin = copy_weights(compiled, dtype=torch.float32)
        assert not any("forward" in vars(module) for module in twin.modules())
        gpu = Compute(device="cuda", precision="fp32")
        assert open_sampler(compiled, compute=gpu) is not compiled
        assert open_sampler(model, compute=gpu) is model

    def test_packed_weights_and_positions_of_other_kinds_are_left_to_generate(self, model: LlamaForCausalLM) -> None:
        from transformers import BloomConfig, BloomForCausalLM, FalconConfig, FalconForCausalLM

        gpu = Compute(device="cuda", precision="bf16")
        assert can_record(model, compute=gpu)
        assert not can_record(BloomForCausalLM(BloomConfig(hidden_size=16, n_layer=1, n_head=2, vocab_size=40)),
                              compute=gpu)  # fmt: skip
        alibi = FalconConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=40, alibi=True)
        assert not can_record(FalconForCausalLM(alibi), compute=gpu)
        packed = copy_weights(model, dtype=torch.float32)
        packed.lm_head.weight = torch.nn.Parameter(torch.zeros(4, 1, dtype=torch.uint8), requires_grad=False)
        assert not can_record(packed, compute=gpu)

    def test_models_with_windows_or_states_are_left_to_generate(self) -> None:
        from transformers import MistralConfig, MistralForCausalLM

        small = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
                 "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip
        gpu = Compute(device="cuda", precision="bf16")
        assert can_record(MistralForCausalLM(MistralConfig(**small, sliding_window=None)), compute=gpu)
        assert not can_record(MistralForCausalLM(MistralConfig(**small, sliding_window=8)), compute=gpu)
