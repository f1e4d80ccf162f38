"""What computes the forward pass: torch, onnxruntime or OpenVINO."""
