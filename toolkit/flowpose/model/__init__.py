"""The networks: autoencoder, limb field, transformer, and the generators made of them."""
