"""The multi-layer perceptron that decodes latent codes."""

from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers with ReLU between them (authors' parameter names: `layers.0`, `layers.2`, ...)."""

    def __init__(self, inputs: int, outputs: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(inputs, width), nn.ReLU()]
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, outputs))

    @property
    def linears(self) -> list[nn.Linear]:
        """The linear layers from first to last."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        result: Tensor = self.layers(x)
        return result
