"""What an arm may change at sampling time: prompts, or the noise prediction of every step.

One module per intervention, named by an arm's ``intervention``. Each has ``Settings`` (the arm's
``draw``) and ``Intervention``.
"""
