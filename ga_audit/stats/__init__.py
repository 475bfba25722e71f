"""arrays in, small results out; numpy (scipy.special inside functions).

Nothing here knows of runs, files or verdict texts: arrays and numbers come in, small frozen results go out.
`alignment` makes bins, `levels` makes one level per run with its covariance, `scaling` compares scaling
hypotheses, `decision` turns likelihoods into a verdict, `constants` holds every judgement that is not arithmetic.
"""
