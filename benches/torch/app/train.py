"""Stands for an application: a few lines above gigabytes of packages."""

import torch


def main() -> None:
    """Fits a line to a line."""
    x = torch.linspace(-1, 1, 256).unsqueeze(1)
    y = 3 * x + 1
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    print(f"{model.weight.item():.3f} {model.bias.item():.3f}")


if __name__ == "__main__":
    main()
