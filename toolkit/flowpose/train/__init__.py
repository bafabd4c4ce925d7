"""Training: the autoencoder, then the teacher."""

from flowpose.train.autoencoder import train_autoencoder
from flowpose.train.teacher import train_teacher

__all__ = ["train_autoencoder", "train_teacher"]
