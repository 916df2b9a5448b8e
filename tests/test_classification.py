"""The classification procedure, in Python: what it returns and measures."""

import pytest
import torch
from bounds import linear_l2_loss_bound
from lightning.pytorch import Trainer

from lit_l2softmax.classification import LitClassification
from lit_l2softmax.data import MNISTData
from lit_l2softmax.layers import L2SoftmaxLoss
from lit_l2softmax.networks import MnistConvNet
from lit_l2softmax.ops import linear_l2_softmax_cross_entropy

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:.*{message}") for message in ("does not have many workers", "LeafSpec")
]


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
    monkeypatch.setattr(module, "log_dict", lambda values: logged.update({k: float(v) for k, v in values.items()}))
    optimizer = torch.optim.SGD(module.parameters(), 0.25)
    module._trainer = type("Trainer", (), {"optimizers": [optimizer]})()
    features, labels = torch.randn(40, 1024), torch.randint(10, (40,))
    module._record(features, labels, torch.tensor(1.5))
    right = module.head.logits(features).argmax(1) == labels
    assert logged["train/accuracy"] == pytest.approx(float(right.float().mean()))
    assert logged["train/feature_norm"] == pytest.approx(float(features.norm(dim=1).mean()))
    assert (logged["train/alpha"], logged["train/learning_rate"], logged["train/loss"]) == (16.0, 0.25, 1.5)
