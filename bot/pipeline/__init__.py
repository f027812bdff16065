"""The path of a ticket, each box a module here, each arrow an event.

    Human ─IssueLabelled─▶ ENGINEER ─ScopeSubmitted─▶ ORCHESTRATOR ─PlanSubmitted─▶ DEVELOPERS
          ◀─questions──────┘                        ◀─plan to approve─┘                 │ RunSucceeded
                                                                                         ▼
    base branch ◀─series lands── review ◀─pull request── MERGE QUEUE ◀─change requests───┘

Pure: a stage sees a ticket, an event and the time, and answers what changes. It never waits and never acts.
"""
