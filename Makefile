# make install: the packages to .venv, which all others do first.
# make demo: a trained agent whose sensors fail, then a short training. make test: the tests.
# make board: TensorBoard on the runs in logdir/.
# make claim: MuMMI's claim in a toy world, in two minutes.
# make docs: write docs/options.md from config.py. make results: draw the figures of results/ again
# from the logs there, and write the tables of the pages.

PYTHON ?= python3.11
BIN := .venv/bin
DEMO := logdir/demo
# The trained agent that the demo shows.
AGENT ?= agents/walker_walk/mummi

.PHONY: install demo board claim test lint docs bench torture results clean

.venv/installed: requirements.txt requirements-dev.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@echo 'installing the pinned packages to .venv (2.8 GB, a minute or two)'
	$(BIN)/pip install --disable-pip-version-check -r requirements-dev.txt
	touch $@

install: .venv/installed

demo: .venv/installed
	$(BIN)/python demo.py --agent $(AGENT) --outdir $(DEMO)

board: .venv/installed
	$(BIN)/tensorboard --logdir logdir

claim: .venv/installed
	$(BIN)/python claim.py --outdir logdir/claim

# In two processes, a file at a time, so that what a file prepares is made once; in the order of
# the names, whose last files are short, so that the two end together.
test: .venv/installed
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

lint: .venv/installed
	$(BIN)/ruff check .

docs: .venv/installed
	$(BIN)/python docs/options.py

bench: .venv/installed
	$(BIN)/python benchmarks/speed.py

# Hours: kills, signals, full disks, damaged files, dying environments, long runs.
torture: .venv/installed
	$(BIN)/python tests/torture.py

results: .venv/installed
	$(BIN)/python plotting.py --indir results/agent/runs --outdir results/agent/figures \
		--reference results/published.csv --metrics imagined_reward,value,actor_entropy
	$(BIN)/python plotting.py --indir results/rates/runs --outdir results/rates/figures \
		--by actor_rate,value_rate,horizon --metrics value,value_loss,actor_entropy
	$(BIN)/python plotting.py --indir results/methods/runs results/sizes/runs --methods mummi \
		--outdir results/sizes/figures --by batch,train_updates,free_nats --bin 10000 --hours 0.5 \
		--metrics reward_loss,value,image_loss
	$(BIN)/python plotting.py --indir results/methods/runs results/shapes/runs --methods mummi \
		--outdir results/shapes/figures --by length,batch,train_updates,conv_depth,units \
		--bin 10000 --metrics reward_loss,value,image_loss
	$(BIN)/python plotting.py --indir results/walk/runs --outdir results/walk/figures \
		--by length,train_updates --bin 10000 --hours 0.5 --metrics reward_loss,value,image_loss
	$(BIN)/python plotting.py --indir results/steady/runs results/rivals/runs --methods mummi \
		--outdir results/steady/figures \
		--by kl_balance,value_rate,encoder_activation,reward_weight --bin 10000 \
		--metrics value,imagined_reward,actor_entropy,depth_loss,find_image_depth
	$(BIN)/python plotting.py --indir results/rivals/runs --outdir results/rivals/figures \
		--bin 10000 --metrics reward_loss,imagined_reward,value,actor_entropy
	$(BIN)/python plotting.py --indir results/preset/runs results/rivals/runs \
		--methods mummi --outdir results/preset/figures \
		--by encoder_activation,imagine_every,train_updates,reward_weight --bin 10000 \
		--metrics image_loss,find_image_depth,imagined_reward,value,actor_entropy
	$(BIN)/python plotting.py --indir results/study/runs --outdir results/study/figures \
		--bin 10000 --metrics reward_loss,imagined_reward,value,actor_entropy
	$(BIN)/python plotting.py --indir results/paper/runs --outdir results/paper/figures --bin 1000 \
		--against updates --metrics image_loss,find_image_depth,imagined_reward,value,actor_entropy
	$(BIN)/python plotting.py --indir results/hour/runs --outdir results/hour/figures \
		--bin 10000 --metrics reward_loss,imagined_reward,value_ratio,actor_entropy
	$(BIN)/python plotting.py --indir results/behaviour/runs results/study/runs/dmc_walker_stand/mummi \
		results/study/runs/dmc_walker_walk/mummi --outdir results/behaviour/figures \
		--by actor_rate,entropy_bonus,seed --bin 10000 --metrics imagined_reward,value_ratio,actor_entropy
	$(BIN)/python plotting.py --indir results/pictures/runs results/study/runs/dmc_walker_stand/mummi \
		results/study/runs/dmc_walker_walk/mummi --outdir results/pictures/figures \
		--by picture_size,envs,seed --bin 10000 --metrics imagined_reward,value_ratio,reward_loss
	$(BIN)/python plotting.py --indir results/small/runs --outdir results/small/figures \
		--by kl_balance,sensors --bin 250 --against updates \
		--metrics divergence,imagined_reward,value,actor_entropy
	$(BIN)/python plotting.py --indir results/wiping/runs --outdir results/wiping/figures \
		--bin 2500 --metrics reward_loss,imagined_reward,value,actor_entropy
	$(BIN)/python plotting.py --indir results/cartpole/runs --outdir results/cartpole/figures \
		--by batch,train_updates,free_nats --bin 2000 --reference results/published.csv \
		--metrics image_loss,divergence,value,actor_entropy
	$(BIN)/python plotting.py --indir results/choices/runs --outdir results/choices/figures \
		--by actor_gradient,across_episodes,discount,explore_epsilon --bin 250 \
		--metrics reward_loss,imagined_reward,value,actor_entropy
	$(BIN)/python plotting.py --indir results/methods/runs --outdir results/methods/figures \
		--metrics reward_loss,imagined_reward,value,actor_entropy
	$(BIN)/python plotting.py --indir results/methods/runs results/backgrounds/runs --methods cvrl \
		--outdir results/backgrounds/figures --by natural --bin 10000 \
		--metrics reward_loss,contrast_loss,value
	$(BIN)/python plotting.py --indir results/shortcut/runs --outdir results/shortcut/figures \
		--by natural,natural_variety --metrics find_image_depth,find_depth_image,image_loss,depth_loss
	$(BIN)/python relations.py --indir results/methods/runs results/shapes/runs results/sizes/runs \
		--methods mummi --tasks dmc_walker_stand --metrics find_image_depth,find_depth_image \
		--outdir results/agreement/figures
	$(BIN)/python results/tables.py

clean:
	rm -rf .venv logdir/demo
