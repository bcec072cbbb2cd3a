#!/bin/sh
# What a job does with the configuration file of a gateway, in three steps:
#
#   job.sh check    on every push; needs no gateway
#   job.sh plan     for whoever reviews: prints a comment in Markdown
#   job.sh apply    once it is merged: tries the file, and keeps it if all is well
#
# plan and apply need, in the environment,
#
#   BULKHEAD_BOX          https://192.168.10.1, where this machine reaches the gateway
#   BULKHEAD_TOKEN        of the scopes read and plan; for apply also of the scope apply
#   BULKHEAD_FINGERPRINT  of the gateway's key
#
# BULKHEAD_FILE is the file, if it is not home.yaml. SMOKE is a program that fails if
# the network is not as it should be; without it, that the gateway can be reached is
# enough. The exit code is bulkhead's: 0, 1 if the file or the network is at fault, 2 or
# 3 if the job is.
set -eu

file=${BULKHEAD_FILE:-home.yaml}

box() { bulkhead --box "$BULKHEAD_BOX" "$@"; }

case ${1-} in
check)
	bulkhead check "$file"
	bulkhead test "$file"
	;;
plan)
	code=0
	text=$(box plan "$file" 2>&1) || code=$?
	case $code in
	0) echo "Merging this changes the network as follows." ;;
	1) echo "**The gateway refuses this file.**" ;;
	*) echo "**There is no plan: the job failed.**" ;;
	esac
	echo
	printf '%s\n' "$text" | sed 's/^/    /' # code in Markdown, whatever it holds
	exit "$code"
	;;
apply)
	# From here on the file is in force, and undoes itself unless it is confirmed:
	# also if this job dies.
	box apply -m "${BULKHEAD_WHY:-$(git log -1 --format=%s)}" "$file"
	if [ -n "${SMOKE-}" ] && ! "$SMOKE"; then
		box cancel
		echo "$SMOKE failed: the network is as it was before" >&2
		exit 1
	fi
	box confirm
	;;
*)
	sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac
