"""The four stages of a backbone, from stride 4 on: from each to the next the channels double, and the stride with them.

At an output stride below 32, dilation takes the place of the last strides.
"""

FIRST = 4  # stride of the first stage
# Output stride -> (stride, dilation) of the stages; a stride is that against the stage before.
STAGES = {
    8: ((1, 1), (2, 1), (1, 2), (1, 4)),
    16: ((1, 1), (2, 1), (2, 1), (1, 2)),
    32: ((1, 1), (2, 1), (2, 1), (2, 1)),
}


def strides(output_stride: int) -> list[int]:
    """The strides of the stages against the image.

    Args:
      output_stride: a key of STAGES.
    """
    found, stride = [], FIRST
    for each, _ in STAGES[output_stride]:
        stride *= each
        found.append(stride)
    return found


def doubled(channels: int, output_stride: int) -> dict[int, int]:
    """The channels of the features.

    Args:
      channels: of the first stage.
      output_stride: a key of STAGES.

    Returns:
      {stride: channels of the last stage of this stride}.
    """
    return {stride: channels * 2**i for i, stride in enumerate(strides(output_stride))}
