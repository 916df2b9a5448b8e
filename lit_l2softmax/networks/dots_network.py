"""The network of System 3 that tells red dots from blue ones.

Source: Cao Jian, PKU, "neural network optimisation", opt4_7 and opt4_8 (generateds, forward, backward).

| layer  | output   | parameters |
|--------|----------|------------|
| hidden | 11, ReLU |         33 |
| output | 1        |         12 |

45 parameters. The output is linear and taken for the class, red being 1: squared error on two classes, as the source
has it. Weights start from a normal distribution of deviation 1, biases at .01. (A copy of the source makes the output's
weights 11 x 2, which TensorFlow broadcasts in silence.)
"""

from torch import Tensor, nn


class DotsNetwork(nn.Module):
    """Maps points ``(N, 2)`` to ``(N, 1)``, above .5 where it takes a dot for red."""

    out_features = 1

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(2, 11)
        self.output = nn.Linear(11, self.out_features)
        for layer in (self.hidden, self.output):
            nn.init.normal_(layer.weight)
            nn.init.constant_(layer.bias, 0.01)

    def forward(self, points: Tensor) -> Tensor:
        """Outputs ``(N, 1)`` of points ``(N, 2)``."""
        outputs: Tensor = self.output(self.hidden(points).relu())
        return outputs
