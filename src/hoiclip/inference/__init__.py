"""From image files to detections, calibration and export."""
