"""A trained network as files that other programs run: StableHLO and ONNX, with a card that says what they are."""
