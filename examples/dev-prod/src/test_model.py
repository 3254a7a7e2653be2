import torch

from model import means


def test_means():
    values, groups = torch.tensor([1.0, 2.0, 6.0, 4.0]), torch.tensor([0, 1, 1, 0])
    assert means(values, groups).tolist() == [2.5, 4.0]


def test_gradient():
    values = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
    means(values, torch.tensor([0, 1, 1])).sum().backward()
    assert values.grad.tolist() == [1.0, 0.5, 0.5]
