"""The classification procedure, in Python: what it returns and measures."""

import pytest
import torch
from bounds import linear_l2_loss_bound
from lightning.pytorch import Trainer
from run_records import result_of

from lit_l2softmax.classification import LitClassification
from lit_l2softmax.data import MNISTData
from lit_l2softmax.errors import DataError
from lit_l2softmax.layers import L2SoftmaxLoss
from lit_l2softmax.networks import MnistConvNet
from lit_l2softmax.ops import linear_l2_softmax_cross_entropy
from lit_l2softmax.penalties import WeightPenalty

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:.*{message}") for message in ("does not have many workers", "LeafSpec")
]

# What a training step asks of a trainer when nothing is recorded.
SILENT = type("Trainer", (), {"_logger_connector": type("Connector", (), {"should_update_logs": False})})()


@pytest.fixture
def module():
    torch.manual_seed(0)
    return LitClassification(MnistConvNet(), L2SoftmaxLoss(1024, 10, alpha=16.0)).eval()


@pytest.fixture
def trainer(tmp_path):
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
    )


def test_predicted_features_have_length_alpha_and_compose_to_the_operators_loss(module, trainer):
    data = MNISTData(source="digits", predict_images=50)
    (predicted,) = trainer.predict(module, datamodule=data)
    features = predicted["features"]
    assert features.shape == (50, 1024)
    assert (features.double().norm(dim=1) / 16 - 1).abs().max() < 1e-5

    labels = data.test[1][:50]
    head = module.head
    with torch.no_grad():
        composed = torch.nn.functional.cross_entropy(features @ head.weight.T + head.bias, labels, reduction="none")
        raw = module.network(data.test[0][:50] / 255)
        fused = linear_l2_softmax_cross_entropy(
            raw, head.weight, labels, linear_bias=head.bias, alpha=16.0, reduction="none"
        )
    bound = 2 * linear_l2_loss_bound(features, head.weight, 16.0, float(head.bias.detach().abs().max()), torch.float32)
    assert (composed - fused).abs().max() <= bound < 1e-2


def test_probabilities_sum_to_one_and_the_prediction_is_the_largest(module, trainer):
    (predicted,) = trainer.predict(module, datamodule=MNISTData(source="digits", predict_images=50))
    probability = predicted["probability"]
    torch.testing.assert_close(probability.sum(1), torch.ones(50))
    assert torch.equal(predicted["prediction"], probability.argmax(1))
    assert (probability.gather(1, predicted["prediction"][:, None])[:, 0] >= 0.1).all()


def test_pictures_without_labels_can_be_predicted(module):
    images = torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        alone, labelled = module.predict_step(images, 0), module.predict_step((images, torch.zeros(3)), 0)
    assert torch.equal(alone["probability"], labelled["probability"])


def test_accuracy_and_loss_are_those_of_all_images_at_once(module, trainer):
    data = MNISTData(source="digits", eval_batch_size=150)  # 400 = 150 + 150 + 100
    (scores,) = trainer.test(module, datamodule=data, verbose=False)
    images, labels = data.test
    with torch.no_grad():
        features = module.network(images / 255)
        right = module.head.logits(features).argmax(1) == labels
        loss = module.head(features, labels)
    assert scores["test/accuracy"] == pytest.approx(float(right.float().mean()), abs=1e-6)
    assert scores["test/loss"] == pytest.approx(float(loss), rel=1e-5)
    assert scores["test/images"] == 400


def test_a_second_test_does_not_remember_the_first(module, trainer):
    data = MNISTData(source="digits")
    first = trainer.test(module, datamodule=data, verbose=False)
    assert trainer.test(module, datamodule=data, verbose=False) == first


def test_a_head_that_does_not_fit_the_network_is_refused():
    with pytest.raises(ValueError, match="the network gives 1024 features, the head wants 512"):
        LitClassification(MnistConvNet(), L2SoftmaxLoss(512, 10))


def test_training_accuracy_is_that_of_the_batch(module, monkeypatch):
    logged = {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: float(value)}))
    monkeypatch.setattr(module, "log_dict", lambda values, **_: logged.update({k: float(v) for k, v in values.items()}))
    optimizer = torch.optim.SGD(module.parameters(), 0.25)
    module._trainer = type("Trainer", (), {"optimizers": [optimizer]})()
    features, labels = torch.randn(40, 1024), torch.randint(10, (40,))
    module._record(features, labels, {"loss": torch.tensor(1.5)}, torch.ones(()))
    right = module.head.logits(features).argmax(1) == labels
    assert logged["train/accuracy"] == pytest.approx(float(right.float().mean()))
    assert logged["train/feature_norm"] == pytest.approx(float(features.norm(dim=1).mean()))
    assert (logged["train/alpha"], logged["train/learning_rate"], logged["train/loss"]) == (16.0, 0.25, 1.5)


def test_an_l2_penalty_is_what_sgd_calls_weight_decay():
    """TensorFlow's l2_loss, halved as there, is SGD's weight_decay of those tensors and of no other."""
    images, labels = torch.rand(16, 1, 28, 28), torch.randint(10, (16,))
    decayed = ("network.conv1.weight", "head.weight")
    modules = []
    for penalty in (WeightPenalty(decayed, l2=0.1), None):
        torch.manual_seed(0)
        network = MnistConvNet(dropout=0.0)
        modules.append(LitClassification(network, L2SoftmaxLoss(1024, 10), penalty).double())
    ours, theirs = modules
    for module in modules:
        module.trainer = SILENT
    groups = [{"params": [p], "weight_decay": 0.1 if name in decayed else 0.0} for name, p in theirs.named_parameters()]
    for module, optimizer in (
        (ours, torch.optim.SGD(ours.parameters(), lr=0.1)),
        (theirs, torch.optim.SGD(groups, lr=0.1)),
    ):
        for _ in range(3):
            optimizer.zero_grad()
            module.training_step((images.double(), labels), 0)["loss"].backward()
            optimizer.step()
    for name, weight in ours.named_parameters():
        torch.testing.assert_close(weight, theirs.get_parameter(name), rtol=1e-10, atol=1e-12)


def test_the_loss_is_the_sum_of_its_named_parts():
    torch.manual_seed(0)
    decayed = ["network.dense.weight", "head.weight"]
    module = LitClassification(MnistConvNet(dropout=0.0), L2SoftmaxLoss(1024, 10), WeightPenalty(decayed, l2=0.5))
    module.trainer = SILENT
    batch = torch.rand(8, 1, 28, 28), torch.randint(10, (8,))
    step = module.training_step(batch, 0)
    losses = step["losses"]
    assert list(losses) == ["cross_entropy", *(f"penalty/{name}" for name in decayed), "loss"]
    for name in decayed:
        squares = module.get_parameter(name).detach().double().square().sum()
        assert float(losses[f"penalty/{name}"]) == pytest.approx(0.25 * float(squares), rel=1e-5)
    assert float(losses["cross_entropy"]) == pytest.approx(
        float(module.head(module.network(batch[0]), batch[1]).detach())
    )
    assert float(losses["loss"]) == pytest.approx(sum(float(part) for part in losses.values()) / 2, rel=1e-6)
    assert torch.equal(step["loss"].detach(), losses["loss"])
    assert not any(part.requires_grad for part in losses.values())
    plain = LitClassification(module.network, module.head, WeightPenalty(decayed))
    plain.trainer = SILENT
    assert list(plain.training_step(batch, 0)["losses"]) == ["loss"]


def test_a_penalty_of_a_weight_that_is_not_there_is_refused():
    message = "there is no weight 'network.dens.weight'; did you mean 'network.dense.weight'"
    with pytest.raises(ValueError, match=message):
        LitClassification(MnistConvNet(), L2SoftmaxLoss(1024, 10), WeightPenalty(["network.dens.weight"]))


@pytest.mark.parametrize("alpha", [0.0, 16.0])
@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_that_is_no_class_is_named(alpha, label):
    module = LitClassification(MnistConvNet(), L2SoftmaxLoss(1024, 10, alpha))
    module.trainer = SILENT
    with pytest.raises(DataError, match=f"a label is none of the 10 classes: .*{label}"):
        module.training_step((torch.rand(3, 1, 28, 28), torch.tensor([0, label, 9])), 0)


def test_calling_the_module_gives_logits(module):
    images = torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(module(images), module.head.logits(module.network(images)))


def test_classes_are_called_as_the_data_call_them(module):
    assert module.class_names == [str(number) for number in range(10)]
    module.trainer = type("Trainer", (), {"datamodule": type("Data", (), {"class_names": tuple("abcdefghij")})})()
    assert module.class_names == list("abcdefghij")


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method")
def test_a_compiled_network_keeps_the_names_of_its_weights(module):
    compiled = LitClassification(MnistConvNet(), L2SoftmaxLoss(1024, 10), compile_network="default")
    assert list(compiled.state_dict()) == list(module.state_dict())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*torch.jit.script_method")
def test_a_compiled_network_trains_as_the_other_does(fit):
    losses = []
    for compile_network in ("null", "default"):
        run, _ = fit(
            "mnist",
            f"--model.compile_network={compile_network}",
            "--model.ema_decay=0.99",
            "--model.network.dropout=0",
            "--trainer.max_steps=8",
            "--data.source=digits",
        )
        weights = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        losses.append((result_of(run)["test/loss"], list(weights)))
    assert losses[0][1] == losses[1][1]
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-2)


def test_the_calibration_error_is_how_far_probabilities_are_from_what_is_right(monkeypatch):
    network = torch.nn.Identity()
    network.out_features = 2
    module = LitClassification(network, L2SoftmaxLoss(in_features=2, num_classes=2, alpha=1.0))
    # Of fifteen bins, .6 and .6 share one, half of them right, .9 has one, and .97 and 1 share the last, half right.
    probabilities = torch.tensor([[0.6, 0.4], [0.4, 0.6], [0.1, 0.9], [0.03, 0.97], [0.0, 1.0]])
    labels = torch.tensor([0, 0, 1, 1, 0])
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    monkeypatch.setattr(L2SoftmaxLoss, "logits", lambda self, features: features)
    module._evaluate((probabilities.log(), labels), "test")
    assert float(module.calibration_error.compute()) == pytest.approx((2 * 0.1 + 1 * 0.1 + 2 * 0.485) / 5, abs=1e-6)
