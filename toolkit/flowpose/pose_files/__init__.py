"""Reading poses and motions from files: JSON of OpenPose, COCO and MediaPipe, CSV, DeepFashion, .pose, NumPy."""

from flowpose.pose_files.reading import read_motion, read_poses

__all__ = ["read_motion", "read_poses"]
