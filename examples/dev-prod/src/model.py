"""Means of what belongs together."""

import torch
from torch_scatter import scatter


def means(values: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """The mean of each group's values, by group."""
    return scatter(values, groups, dim=0, reduce="mean")
