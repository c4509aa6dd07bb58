import pytest

from gradsmith.layout.bucket import plan_buckets
from gradsmith.layout.key import BucketKey


def test_equal_matrices_share_a_bucket_and_transposes_do_not():
    buckets = plan_buckets([(1, 2, 3), (4, 2, 3), (1, 3, 2)])
    assert [str(bucket.key("float32")) for bucket in buckets] == ["5x2x3 float32", "1x3x2 float32"]
    assert buckets[0].members == (0, 1)
    assert buckets[0].counts == (1, 4)


def test_what_meets_is_told():
    (bucket,) = plan_buckets([(1, 2, 3), (1, 3, 2)], meets=lambda shape: (min(shape), max(shape)))
    assert bucket.matrix_shape == (2, 3)
    assert bucket.count == 2


@pytest.mark.parametrize("text", ["12x768x3072 float32", "1x0x4 bfloat16", "3x2x2 complex64"])
def test_a_key_is_read_as_it_was_written(text):
    key = BucketKey.parse(text)
    assert key is not None
    assert str(key) == text
    assert text == f"{key.matrices}x{key.matrix_shape[0]}x{key.matrix_shape[1]} {key.dtype}"


@pytest.mark.parametrize("text", ["", "12x768 float32", "12x768x3072", "a 12x768x3072 float32"])
def test_what_is_no_key_is_told(text):
    assert BucketKey.parse(text) is None
