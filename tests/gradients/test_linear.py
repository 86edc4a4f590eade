"""Linear systems known by their products: against dense solves."""

import torch

from torchkm.gradients.linear import conjugate_gradients, gmres


def system(generator, batch, size, spread):
    """Return symmetric matrices with eigenvalues from 1 to ``spread``, and right-hand sides."""
    draw = torch.randn(batch, size, size, generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(draw).Q
    matrix = basis * torch.linspace(1, spread, size, dtype=torch.float64) @ basis.mT
    return matrix, torch.randn(batch, size, 1, generator=generator, dtype=torch.float64)


def test_conjugate_gradients_solve_each_system_of_a_batch(generator):
    matrix, right = system(generator, 4, 12, 50)
    diagonal = matrix.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
    solved = conjugate_gradients(lambda w: matrix @ w, right, diagonal, 1e-12, 100)
    torch.testing.assert_close(solved.solution, torch.linalg.solve(matrix, right))
    assert (solved.residual < 1e-12).all()
    assert solved.definite.all()
    assert solved.n_iter <= 15
    few = conjugate_gradients(lambda w: matrix @ w, right, diagonal, 1e-12, 3)
    assert few.n_iter == 3
    assert (few.residual > 1e-6).all()


def test_a_right_side_of_zeros_has_a_solution_of_zeros(generator):
    matrix, right = system(generator, 2, 5, 3)
    right[0] = 0
    solved = conjugate_gradients(lambda w: matrix @ w, right, torch.ones(1), 1e-12, 50)
    torch.testing.assert_close(solved.solution, torch.linalg.solve(matrix, right))
    assert solved.definite.all()


def test_a_matrix_that_bends_down_is_found_out(generator):
    matrix, right = system(generator, 2, 5, 3)
    matrix[1] -= 2.5 * torch.eye(5, dtype=torch.float64)
    solved = conjugate_gradients(lambda w: matrix @ w, right, torch.ones(1), 1e-12, 50)
    assert solved.definite.tolist() == [True, False]
    assert torch.isfinite(solved.solution).all()


def test_gmres_solves_systems_that_are_not_symmetric(generator):
    matrix, right = system(generator, 3, 8, 5)
    matrix = matrix + torch.randn(8, 8, generator=generator, dtype=torch.float64) / 4
    solved = gmres(lambda w: matrix @ w, right, 1e-12, 30)
    torch.testing.assert_close(solved.solution, torch.linalg.solve(matrix, right))
    assert (solved.residual < 1e-11).all()
    zero = gmres(lambda w: matrix @ w, torch.zeros_like(right), 1e-12, 30)
    assert not zero.solution.any()
