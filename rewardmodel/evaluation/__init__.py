"""What held-out judgements say of a model, beyond one accuracy.

Pure functions on arrays, one subject a module: `resampling`, `logistic`, `calibration`, `slices`, `length_control`,
`robustness`, `sections`, `comparison`, `surprises` for reward models; `win_rates`, `diversity` for policies.
`reward_models` and `policies` score with `rewardmodel.evaluate` and put the figures together; `plots`, `page`,
`report` and `policy_report` write them down as one file of HTML.

A margin is score(chosen) - score(rejected) in the unit of the scores, which the Bradley-Terry model reads as log odds.
Pairs of one prompt are not independent, so intervals draw whole prompts unless they say otherwise.
"""
