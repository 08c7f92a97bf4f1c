"""How an arm's model is made: one module per recipe, named by an arm's ``recipe``.

Each has ``Settings`` (what the arm's ``train`` may set) and ``fit``, from a `Job` to a `Fitted`.
"""
