#!/bin/bash
# What a rented machine does: set its own end, work, give back what came of it, end.
# smidgen fills in @WORDS@; the addresses are presigned, so the machine holds no credentials.
shutdown -h +@SHUTDOWN_MINUTES@ || shutdown -h now || poweroff -f
set -u
umask 077

work="${SMIDGEN_MACHINE:-/opt/smidgen-work}"
metadata="${SMIDGEN_METADATA:-http://169.254.169.254}"
mkdir -p "$work/runs" && cd "$work" || shutdown -h now
exec > "$work/log.txt" 2>&1
echo "$(date -u +%FT%TZ) job @JOB@, at most @WORK_SECONDS@ s of work"

put() { # a file, to a presigned address
  curl -fsS --retry 4 --retry-all-errors --max-time 120 -T "$1" "$2"
}

give_back() { # what there is of the runs, whole or unfinished
  tar --exclude '*.lock' --exclude '.*' -czf results.tar.gz -C "$work" runs \
    && sha256sum results.tar.gz | cut -d ' ' -f 1 > results.sha256 \
    && put results.tar.gz "@RESULTS_URL@"
}

finish() { # with what: give back, tell the end, and go
  give_back
  echo "$(date -u +%FT%TZ) ends with $1"
  cp log.txt sent.txt && put sent.txt "@LOG_URL@"
  printf '{"code": %d, "results_sha256": "%s", "seconds": %d}\n' \
    "$1" "$(cat results.sha256 2> /dev/null)" "$SECONDS" > end.json
  put end.json "@END_URL@"
  shutdown -h now
  exit "$1"
}

notice() { # whether EC2 says that it takes this machine back
  local token
  token="$(curl -fsS --max-time 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' \
    "$metadata/latest/api/token")" 2> /dev/null || return 1
  curl -fsS --max-time 2 -o /dev/null -H "X-aws-ec2-metadata-token: $token" \
    "$metadata/latest/meta-data/spot/instance-action" 2> /dev/null
}

curl -fsS --retry 4 --retry-all-errors --max-time 300 -o input.tar.gz "@INPUT_URL@" || finish 70
echo "@INPUT_SHA256@  input.tar.gz" | sha256sum -c --quiet || finish 71
tar -xzf input.tar.gz || finish 71
if [ -n "@PREVIOUS_URL@" ]; then # what an earlier machine got done
  curl -fsS --retry 4 --retry-all-errors --max-time 300 -o previous.tar.gz "@PREVIOUS_URL@" \
    && echo "@PREVIOUS_SHA256@  previous.tar.gz" | sha256sum -c --quiet \
    && tar -xzf previous.tar.gz || finish 71
fi

dnf -q -y install @PACKAGES@ || finish 72
python3.11 -m venv venv && venv/bin/pip install -q --retries 5 -r requirements.txt || finish 72

export PYTHONPATH="$work/package" SMIDGEN_DATA="$work/data" SMIDGEN_CACHE="$work/cache"
export HOME="$work"
timeout --signal=TERM --kill-after=60 @WORK_SECONDS@ venv/bin/python -m smidgen @COMMAND@ &
worker=$!
told=0
ticks=0
while kill -0 "$worker" 2> /dev/null; do
  sleep "${SMIDGEN_POLL_SECONDS:-5}"
  ticks=$((ticks + 1))
  if [ "$told" = 0 ] && notice; then
    echo "$(date -u +%FT%TZ) spot notice"
    told=1
    kill -TERM "$worker" 2> /dev/null
  fi
  # a machine that is lost without notice costs two minutes of work, not all of it
  if [ "$told" = 0 ] && [ $((ticks % 24)) = 0 ]; then give_back; fi
done
wait "$worker"
code=$?
[ "$told" = 1 ] && [ "$code" != 0 ] && code=75
finish "$code"
