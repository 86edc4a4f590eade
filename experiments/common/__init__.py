"""What several experiments share: flags, machines, MNIST, seeds and reports."""
