.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONUNBUFFERED := 1
export MOLECULE_EPHEMERAL_DIRECTORY := $(CURDIR)/.molecule
ANSWERS ?= .molecule/dashboard-answers.json
.NOTPARALLEL:

.PHONY: help demo lab lab-down examples docs test lint sanity unit packaging molecule bench bench-repository bench-model-cache bench-verification bench-traffic bench-front bench-rollback dashboards dashboard-pictures

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

demo: lab ## from a bare machine to Triton with verified inference (15 minutes the first time, 1 later)
	ansible-playbook playbooks/deploy.yml

lab: .controller ## bring the lab up: a kind cluster with S3 and a load balancer
	ansible-playbook playbooks/lab_up.yml

lab-down: .controller ## take the lab down; what was built stays in the cache
	ansible-playbook playbooks/lab_down.yml

examples: ## build the ImageNet example, 19 MB (1 minute the first time)
	@tools/venv examples/requirements.txt
	@python examples/imagenet/build

docs: .tools ## docs/variables.md from the argument specs
	python tools/variables > docs/variables.md

test: lint unit packaging molecule ## everything (an hour with warm caches, 20 minutes more without)

lint: .tools ## ansible-lint, the changelog and ansible-test sanity
	ansible-lint --offline --profile production
	antsibull-changelog lint
	tools/sanity

unit: .tools ## unit tests, without a cluster
	PYTHONPATH=collections pytest tests/unit --ansible-unit-inject-only -q -n 3 --dist worksteal

packaging: .tools ## the collection resolves from a checkout, installed, and as an automation controller installs it
	PYTHONPATH=collections pytest tests/packaging --ansible-unit-inject-only -q

molecule: .tools ## all Molecule scenarios, or one: make molecule SCENARIO=deploy
	@rm -rf $(MOLECULE_EPHEMERAL_DIRECTORY)  # an interrupted run must not pass for a lab that is there
	tools/scenarios $(SCENARIO)

bench: .controller ## the deployments' figures in docs/benchmarks.md (8 minutes)
	benchmarks/run

bench-repository: .controller ## the uploads' figures in docs/benchmarks.md, beside aws s3 sync and s5cmd (20 minutes)
	benchmarks/repository

bench-model-cache: .controller ## the replicas' starts in docs/benchmarks.md, with and without the model cache (7 minutes)
	benchmarks/model-cache

bench-verification: .controller ## the verification's figures in docs/benchmarks.md (8 minutes)
	benchmarks/verification

bench-traffic: .controller ## the lost requests' figures in docs/benchmarks.md, beside the public chart's objects (40 minutes)
	benchmarks/traffic

bench-front: .controller ## what the front costs, in docs/benchmarks.md (5 minutes)
	benchmarks/front

bench-rollback: .controller ## the seconds from a bad release to the last verified one in docs/benchmarks.md, beside Helm (10 minutes)
	ansible-playbook playbooks/lab_up.yml -e lab_monitoring=true
	benchmarks/rollback

dashboards: .tools ## build the dashboard's JSON from dashboards/build
	dashboards/build

dashboard-pictures: ## draw docs/dashboard-*.png from ANSWERS, what the scenario monitoring got from its Prometheus
	@tools/venv dashboards/requirements.txt
	dashboards/draw $(ANSWERS) docs/dashboard-traffic.png Overview Latency "Throughput and batching" Errors
	dashboards/draw $(ANSWERS) docs/dashboard-machines.png Models "GPU and CPU" Autoscaling

.PHONY: .controller .tools
.controller:
	@tools/venv requirements-controller.txt
.tools:
	@tools/venv tests/requirements.txt
