"""The control process: reads and checks configuration, asks for rollouts, answers operators. It may crash."""
