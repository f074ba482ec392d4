import torch

from avatar.ops import rotation


def random_quats(count=200):
    generator = torch.Generator().manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(count, 4, generator=generator, dtype=torch.float64), dim=-1)


def test_all_forms_of_a_rotation_give_the_same_matrix():
    matrix = rotation.quat_to_matrix(random_quats())
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3).double().expand_as(matrix))
    assert torch.linalg.det(matrix).min() > 0
    for there, back in (
        (rotation.matrix_to_quat, rotation.quat_to_matrix),
        (rotation.matrix_to_axis_angle, rotation.axis_angle_to_matrix),
        (rotation.matrix_to_six_d, rotation.six_d_to_matrix),
    ):
        torch.testing.assert_close(back(there(matrix)), matrix)


def test_quaternion_product_is_the_matrix_product():
    a, b = random_quats()[:100], random_quats()[100:]
    product = rotation.quat_to_matrix(a) @ rotation.quat_to_matrix(b)
    torch.testing.assert_close(rotation.quat_to_matrix(rotation.quat_multiply(a, b)), product)


def test_quarter_turn_about_x_takes_y_to_z():
    matrix = rotation.axis_angle_to_matrix(torch.tensor([torch.pi / 2, 0.0, 0.0]))
    torch.testing.assert_close(matrix @ torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, 1.0]))


def test_axis_angle_is_smooth_at_zero_and_defined_at_half_a_turn():
    zero = torch.zeros(3, requires_grad=True)
    slope = torch.autograd.functional.jacobian(rotation.axis_angle_to_matrix, zero)
    expected = rotation.cross_matrix(torch.eye(3)).permute(1, 2, 0)
    torch.testing.assert_close(slope, expected)
    half = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    torch.testing.assert_close(rotation.matrix_to_axis_angle(half).abs(), torch.tensor([0.0, 0.0, torch.pi]))
