"""``python -m jaxboard demo``: a user's program that trains networks on handwritten digits.

Read it in this order: ``digits`` (the data), ``classifier`` (the model and its loss), ``train_and_eval`` (the two jitted
steps), ``trial`` (the training loop), ``reported_once`` (the description, the graph, the
test images), ``showcase`` (the program).
"""
