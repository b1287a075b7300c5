"""How plans are measured: in the weights one by one, or many to a batch on what the writers put out."""
