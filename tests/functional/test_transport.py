"""Transport: masses, value and gradients against linear programs and autograd."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch.autograd import gradcheck, gradgradcheck

from torchkm.functional import responsibilities, sinkhorn, transport_cost


def draw(generator, *batch, n=12, k=3):
    cost = torch.rand(*batch, n, k, generator=generator, dtype=torch.float64)
    rows = torch.rand(*batch, n, generator=generator, dtype=torch.float64) + 0.1
    columns = torch.rand(*batch, k, generator=generator, dtype=torch.float64) + 0.1
    rows, columns = rows / rows.sum(-1, keepdim=True), columns / columns.sum(-1, keepdim=True)
    return cost, rows, columns


def test_masses_are_met(generator):
    cost, rows, columns = draw(generator, 4)
    found = sinkhorn(cost, 0.05, rows, columns, max_iter=2000, tol=1e-10)
    torch.testing.assert_close(found.plan.sum(-1), rows, atol=1e-9, rtol=0)
    torch.testing.assert_close(found.plan.sum(-2), columns)
    assert (found.residual <= 1e-10).all()
    uniform = sinkhorn(cost, 0.05, max_iter=2000)
    torch.testing.assert_close(uniform.plan.sum(-2), torch.full((4, 3), 1 / 3).double())
    short = sinkhorn(cost, 0.05, rows, columns, max_iter=2)
    assert short.n_iter == 2
    missed = (short.plan.sum(-1) - rows).abs().sum(-1)
    torch.testing.assert_close(short.plan.sum(-2), columns)
    assert (missed > 1e-6).all()


def test_little_temperature_is_the_linear_program(generator):
    cost, rows, columns = draw(generator, n=8)
    sums = np.concatenate([np.kron(np.eye(8), np.ones(3)), np.kron(np.ones(8), np.eye(3))])
    masses = torch.cat([rows, columns]).numpy()
    want = linprog(cost.flatten().numpy(), A_eq=sums, b_eq=masses).fun
    found = sinkhorn(cost, 1e-3, rows, columns, max_iter=20000, tol=1e-9)
    assert (found.plan * cost).sum().item() == pytest.approx(want, abs=1e-3)


def test_columns_that_may_be_missed_freely_are_soft_assignment(generator):
    x = torch.randn(20, 2, generator=generator, dtype=torch.float64)
    centroids = x[:3]
    cost = torch.cdist(x, centroids).square()
    shares = responsibilities(x, centroids, 0.7)
    found = sinkhorn(cost, 0.7, column_penalty=1e-9, max_iter=500, tol=1e-12)
    torch.testing.assert_close(20 * found.plan, shares, rtol=1e-6, atol=1e-6)
    strict = sinkhorn(cost, 0.7, column_penalty=1e9, max_iter=500, tol=1e-12)
    balanced = sinkhorn(cost, 0.7, max_iter=500, tol=1e-12)
    torch.testing.assert_close(strict.plan, balanced.plan, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "penalties", [{}, {"column_penalty": 0.4}, {"row_penalty": 0.3, "column_penalty": 0.4}]
)
def test_the_envelope_is_the_gradient(penalties, generator):
    cost, rows, columns = draw(generator, n=6)
    cost.requires_grad_()
    options = {"max_iter": 3000, "tol": 1e-13, **penalties}
    assert gradcheck(lambda c: transport_cost(c, 0.2, rows, columns, **options), cost)
    by_autograd = torch.autograd.grad(sinkhorn(cost, 0.2, rows, columns, **options).cost, cost)[0]
    envelope = torch.autograd.grad(transport_cost(cost, 0.2, rows, columns, **options), cost)[0]
    torch.testing.assert_close(envelope, by_autograd, rtol=1e-5, atol=1e-7)


def test_no_other_plan_costs_less(generator):
    cost, rows, columns = draw(generator)
    found = sinkhorn(cost, 0.2, rows, columns, max_iter=2000, tol=1e-12)

    def price(plan):
        apart = plan * (plan / (rows.unsqueeze(1) * columns)).log()
        return ((plan * cost).sum() + 0.2 * apart.sum()).item()

    assert found.cost.item() == pytest.approx(price(found.plan), rel=1e-9)
    turn = torch.zeros_like(cost)  # keeps all sums
    turn[0, 0] = turn[1, 1] = 1e-3
    turn[0, 1] = turn[1, 0] = -1e-3
    for sign in (1, -1):
        assert price(found.plan + sign * turn) > found.cost.item()


def test_derivatives_of_two_orders(generator):
    cost, rows, columns = draw(generator, n=4)
    heat = torch.tensor(0.3, dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (cost, heat, rows, columns)]

    def plan(*inputs):
        return sinkhorn(*inputs, max_iter=4, tol=0).plan

    assert gradcheck(plan, inputs)
    assert gradgradcheck(plan, inputs)


def test_a_batch_is_its_problems_one_by_one_and_maps(generator):
    cost, rows, columns = draw(generator, 3)
    heats = torch.tensor([0.1, 0.3, 1.0], dtype=torch.float64)
    options = {"max_iter": 30, "tol": 0}
    whole = sinkhorn(cost, heats, rows, columns, **options).plan
    for i in range(3):
        one = sinkhorn(cost[i], heats[i].item(), rows[i], columns[i], **options).plan
        torch.testing.assert_close(one, whole[i])
    mapped = torch.func.vmap(lambda *given: sinkhorn(*given, **options).plan)
    torch.testing.assert_close(mapped(cost, heats, rows, columns), whole)


def test_rows_and_columns_without_mass_take_no_part(generator):
    cost, rows, columns = draw(generator)
    rows[3], columns[1] = 0, 0
    rows, columns = rows / rows.sum(), columns / columns.sum()
    plan = sinkhorn(cost, 0.1, rows, columns, max_iter=2000).plan
    assert plan[3].sum() < 1e-12
    assert plan[:, 1].sum() < 1e-12
    assert torch.isfinite(plan).all()


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"cost": [[1.0]]}, TypeError, "cost must be a tensor of float numbers, got list"),
        ({"cost": torch.ones(3)}, ValueError, r"cost must have shape \(\*batch, n, k\)"),
        ({"row_mass": torch.ones(3)}, ValueError, r"row_mass must have shape \(\*batch, 4\)"),
        ({"temperature": -1}, ValueError, "temperature must be finite and above 0, got -1"),
        ({"column_penalty": 0}, ValueError, "column_penalty must be finite and above 0, got 0"),
    ],
)
def test_bad_input_is_named(arguments, error, match):
    with pytest.raises(error, match=match):
        sinkhorn(**{"cost": torch.ones(4, 2), "temperature": 1.0, **arguments})
    with pytest.raises(error, match=match):
        transport_cost(**{"cost": torch.ones(4, 2), "temperature": 1.0, **arguments})
