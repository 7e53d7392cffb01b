"""
Going from the plan that runs to another: what would be done (`plans`), doing it (`apply`), and what is kept of it
(`keeping`, in the files of `records`). `deploying` has what clients ask for, `deployed` what holds between two applies,
and `answers` what clients are told. What is decided on the way is in `core.deploy_step`.

Whatever reads or writes files does so in a process of its own (`errand`).
"""
