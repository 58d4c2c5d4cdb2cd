"""What makes customers hard to learn from, one difficulty a module.

Of one moment: `drift` (the response changes), `delays` (outcomes come late or never), `disposition` (customers differ
in what no context shows), `sleeping` (actions are away for reasons that no context shows). Of a session: `capacity`,
`fatigue`, `frustration`, `subsidy`, `withdrawal`. Each says its equations, its defaults and what they are set to match.
"""
