"""A small network in front of a large classifier, for synthetic faces.

Source: none, ours. Two dense layers: all that the rule of ``data/synthetic_faces.py`` asks for is a linear map, and a
step is to be the classifier's. 512 features are ArcFace's (arXiv:1801.07698, section 3.1). Nothing is normalised over a
batch: a training would depend on how many processes share its rows.

| layer  | output    | parameters |
|--------|-----------|------------|
| hidden | 512, ReLU |    131,584 |
| output | 512       |    262,656 |

394,240 parameters.
"""

from torch import Tensor, nn


class FaceMLP(nn.Module):
    """Maps images ``(N, 1, 16, 16)`` to features ``(N, 512)``."""

    out_features = 512

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(16 * 16, 512)
        self.output = nn.Linear(512, self.out_features)

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(N, 512)`` of images ``(N, 1, 16, 16)``."""
        features: Tensor = self.output(self.hidden(images.flatten(1)).relu())
        return features
