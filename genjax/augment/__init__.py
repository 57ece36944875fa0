"""Random changes of images, on the device, that gradients pass through."""
