import subprocess
import sys

import pytest

from rewardmodel.contract import METHODS, RewardSpec, SFTSpec, SpecError, describe_fields, parse_spec, spec_to_dict


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ([], "a spec is a mapping of settings, not list"),
        (
            {},
            "method: unknown 'None': known are reward, sft, dpo, kto, rejection, ppo, rloo, grpo, online-dpo, "
            "check, generate, score, advise",
        ),
        ({"method": "rewrd"}, "method: unknown 'rewrd': did you mean 'reward'?"),
        (
            {"method": "reward", "data": "d", "epoch": 1},
            "unknown 'epoch': did you mean 'epochs'? (method reward)",
        ),
        ({"method": "reward", "data": "d", "epochs": "1"}, "epochs: expected float, got str '1'"),
        ({"method": "reward", "data": "d", "epochs": True}, "epochs: expected float, got bool True"),
        (
            {"method": "reward", "data": "d", "epochs": float("nan")},
            "epochs: must be a finite number, got nan",
        ),
        ({"method": "reward", "data": "d", "batch_size": 1.0}, "batch_size: expected int, got float 1.0"),
        ({"method": "reward", "data": "d", "batch_size": 0}, "batch_size: must be at least 1, got 0"),
        ({"method": "reward", "data": "d", "learning_rate": 0}, "learning_rate: must be above 0, got 0.0"),
        ({"method": "reward", "data": "d", "warmup_ratio": 2}, "warmup_ratio: must be at most 1, got 2.0"),
        ({"method": "reward", "data": "d", "tuning": "Lora"}, "tuning: unknown 'Lora': did you mean 'lora'?"),
        ({"method": "reward", "data": " "}, "data: must not be empty"),
        (
            {"method": "reward", "data": {"train": "a"}},
            "data: the test split is missing; a run needs train and test",
        ),
        ({"method": "reward", "data": {"tset": "a"}}, "data: unknown 'tset': did you mean 'test'?"),
        ({"method": "reward", "data": {"train": 1, "test": "b"}}, "data.train: expected a file name, got 1"),
        ({"method": "score", "model": "m"}, "data: required by method score: "),
        ({"method": "reward", "data": "d", "beta": 0.1}, "unknown 'beta': "),
        ({"method": "reward", "data": "d", "loss": "davdson"}, "loss: unknown 'davdson': did you mean 'davidson'?"),
        (
            {"method": "reward", "data": "d", "tie_strength": 1},
            "tie_strength: loss bradley-terry has no ties; use davidson or rao-kupper",
        ),
        (
            {"method": "reward", "data": "d", "loss": "rao-kupper", "tie_strength": 0.5},
            "tie_strength: must be at least 1 for rao-kupper, got 0.5",
        ),
        ({"method": "reward", "data": "d", "margins": {4: 1}}, "margins: unknown '4': known are 0, 1, 2, 3"),
        (
            {"method": "reward", "data": "d", "margins": {"1": -1}},
            "margins.1: expected a number of at least 0, got -1",
        ),
        (
            {"method": "reward", "data": "d", "loss": "davidson", "margins": {"1": 1}},
            "margins: loss davidson knows no margins; use bradley-terry",
        ),
        ({"method": "reward", "data": "d", "label_smoothing": 0.6}, "label_smoothing: must be at most 0.5, got 0.6"),
        (
            {"method": "reward", "data": "d", "loss": "plackett-luce", "label_smoothing": 0.1},
            "label_smoothing: loss plackett-luce knows none; use bradley-terry",
        ),
        (
            {"method": "reward", "data": "d", "weights_dtype": "mixed"},
            "weights_dtype: mixed is for tuning full; with lora the weights are frozen",
        ),
        ({"method": "sft", "data": "d", "packing": "wrapped"}, "packing: unknown 'wrapped': known are none, bfd"),
        ({"method": "sft", "data": "d", "label_smoothing": 0.1}, "unknown 'label_smoothing': "),
        ({"method": "sft", "data": "d", "eval_steps": 0}, "eval_steps: must be at least 1, got 0"),
        ({"method": "kto", "data": "d", "batch_size": 1}, "batch_size: must be at least 2, got 1"),
        ({"method": "kto", "data": "d", "desirable_weight": 0}, "desirable_weight: must be above 0, got 0.0"),
        ({"method": "dpo", "data": "d", "trackers": "wandbb"}, "trackers: unknown 'wandbb': did you mean 'wandb'?"),
        ({"method": "kto", "data": "d", "trackers": ["mlflow", 3]}, "trackers: unknown '3': known are wandb, mlflow"),
        ({"method": "reward", "data": "d", "trackers": 3}, "trackers: expected str or list, got int 3"),
        ({"method": "ppo", "data": "d"}, "reward_model: required by method ppo: "),
        (
            {"method": "ppo", "data": "d", "reward_model": "r", "kl_in": "loss", "kl_estimator": "k1"},
            "kl_estimator: k1 in the loss has a gradient of mean 0",
        ),
        (
            {"method": "ppo", "data": "d", "reward_model": "r", "kl_estimator": "k4"},
            "kl_estimator: unknown 'k4': did you mean 'k",
        ),
        (
            {"method": "ppo", "data": "d", "reward_model": "r", "batch_size": 2},
            "minibatches: 4 parts of 2 prompts' responses; at most as many",
        ),
        (
            {"method": "rloo", "data": "d", "reward_model": "r", "batch_size": 30},
            "batch_size: 30 responses are no whole groups of 4",
        ),
        (
            {"method": "grpo", "data": "d", "reward_model": "r", "group_size": 1},
            "group_size: must be at least 2, got 1",
        ),
        (
            {"method": "rloo", "data": "d", "reward_model": "r", "lam": 0.9},
            "unknown 'lam'",
        ),
        (
            {"method": "ppo", "data": "d", "reward_model": "r", "response_tokens": 1024},
            "response_tokens: 1024 leave no room for a prompt in max_length 1024",
        ),
        (
            {"method": "ppo", "data": "d", "reward_model": "r", "eos_score": -1, "eos_penalty": 1},
            "eos_penalty: eos_score replaces the score",
        ),
        (
            {"method": "ppo", "data": "d", "reward_model": "r", "target_kl": 6, "kl_coefficient": 0},
            "target_kl: a kl_coefficient of 0 stays 0",
        ),
        (
            {"method": "ppo", "data": "d", "reward_model": "r", "gradient_accumulation": 2},
            "gradient_accumulation: must be at most 1, got 2",
        ),
    ],
)
def test_a_bad_spec_is_refused_naming_the_field(mapping: object, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(mapping)  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "mapping",
    [
        {"method": "reward", "data": "d", "epochs": 2},
        {"method": "reward", "data": "d", "margins": {1: 0, "2": 0.5}, "step_tokens": 1000},
        {"method": "dpo", "data": {"train": "a", "test": "b"}, "max_steps": 3},
        {"method": "sft", "data": "d", "trackers": "wandb, mlflow", "packing": "bfd"},
        {"method": "kto", "data": "d", "trackers": ["trackio"], "early_stopping_patience": 2},
        {"method": "ppo", "data": "d", "reward_model": "r", "kl_in": "loss", "target_kl": 6.0},
        {"method": "rloo", "data": "d", "reward_model": "r", "group_size": 8},
        {"method": "grpo", "data": "d", "reward_model": "r", "loss_mean": "token"},
        {"method": "online-dpo", "data": "d", "reward_model": "r", "beta": 0.05},
        {"method": "generate", "prompts": "p"},
        {"method": "score", "model": "m", "data": "d"},
    ],
)
def test_a_spec_survives_the_way_to_a_mapping_and_back(mapping: dict[str, object]) -> None:
    spec = parse_spec(mapping)
    assert parse_spec(spec_to_dict(spec)) == spec


def test_the_learning_rate_left_out_is_that_of_method_and_tuning() -> None:
    assert RewardSpec(data="d").learning_rate == 1e-4
    assert RewardSpec(data="d", tuning="full").learning_rate == 1e-5


def test_trackers_are_a_list_or_words_with_commas() -> None:
    assert SFTSpec(data="d").trackers == ()
    assert SFTSpec(data="d", trackers=" wandb,mlflow , wandb").trackers == ("wandb", "mlflow")
    assert parse_spec({"method": "sft", "data": "d", "trackers": ["trackio"]}).trackers == ("trackio",)


@pytest.mark.parametrize("method", METHODS)
def test_every_setting_describes_itself(method: str) -> None:
    fields = describe_fields(method)
    assert [field.name for field in fields if not field.help] == []


def test_contract_and_run_directory_import_neither_torch_nor_yaml() -> None:
    code = (
        "import sys, rewardmodel, rewardmodel.contract, rewardmodel.rundir, rewardmodel.cli;"
        "print([name for name in ('torch', 'transformers', 'yaml', 'numpy', 'django') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
