-- best_and_worst_pairs: the preference pairs of dpo with the largest gap between their rewards
--   most = 10: pairs shown
SELECT reward_gap, chosen_reward, rejected_reward, prompt_text, chosen, rejected, task_name, chosen_row, rejected_row
FROM pairs
ORDER BY reward_gap DESC, chosen_row, rejected_row
LIMIT coalesce(getvariable('most'), 10);
