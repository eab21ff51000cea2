"""Exact splitting: ops that need much memory at once, rewritten to need less, with the same bits.

    split_pass      the tracer's pass: which ops, and whether a rewrite may be taken
    uses            who uses a storage last, and who made it
    exactness       before and after, run on random data of the true shapes: the same bits or not
    rules           what to put in an op's place, by its kind
    head_pass       before it: a vocabulary head and its cross-entropy on tiles of the logits
    head            finds one: its ops, forward and backward
    head_drafts     the ops that take their place
    product_rows    a weight's gradient in row pieces, where its updates come by rows
    weight_rows     the same for a head's weight
    notes           what has been rewritten, and what has not and why
    row_chunks      run by the step: softmax, cross-entropy and element-wise ops, piece by piece
    map_chunks      run by the step: batch norm and max-pool, piece by piece
    head_tiles      run by the step: a vocabulary head, tile by tile

Invariant: a rewrite that changes one bit of what the step goes on with is not taken. What the step
runs imports nothing of the pass, so a worker that only trains does not load it.
"""
