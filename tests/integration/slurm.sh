#!/usr/bin/env bash
# A one-node SLURM of Debian's packages (slurmctld, slurmd, slurm-client, munge), started and stopped here; it runs the
# configuration $1 (default: tests/integration/small.yaml) by profiles/slurm, and its tables must be those of a local run.
# Needs root. Exit status 77: it cannot start here, and the last line says why. Everything it makes is in a temporary
# folder, whose address is printed, but the repository's own .snakemake.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

skip() {
  printf 'skipped: %s\n' "$1"
  exit 77
}
for program in slurmctld slurmd sbatch munged mungekey setpriv; do
  command -v "$program" > /dev/null || skip "$program is not installed (apt-get install slurmctld slurmd slurm-client munge)"
done
[ "$(id -u)" = 0 ] || skip "needs root, to start slurmd and munged"
python=${PYTHON:-.venv/bin/python}
"$python" -c 'import snakemake_executor_plugin_slurm' 2> /dev/null || skip "pip install '.[cluster]' is missing"

[ ! -e /etc/slurm/slurm.conf ] || skip "this machine has a SLURM of its own, /etc/slurm/slurm.conf"

work=$(mktemp -d "${TMPDIR:-/tmp}/deal-slurm.XXXXXX")
chmod 755 "$work"
pids=()
stop() {
  for pid in "${pids[@]}"; do kill "$pid" 2> /dev/null || true; done
  [ "$(readlink /etc/slurm/slurm.conf)" != "$work/slurm.conf" ] || rm -f /etc/slurm/slurm.conf
  [ "${munge_pid:-}" = "" ] || kill "$munge_pid" 2> /dev/null || true
}
trap stop EXIT

printf 'SLURM in %s\n' "$work"
mkdir -p "$work/state" "$work/spool" "$work/munge"
chown -R munge:munge "$work/munge"
chmod 711 "$work/munge" # munged wants its socket's folder open to all
setpriv --reuid=munge --regid=munge --clear-groups mungekey --create --keyfile "$work/munge/key"
setpriv --reuid=munge --regid=munge --clear-groups munged --foreground --force --num-threads 2 --key-file "$work/munge/key" \
  --socket "$work/munge/socket" --pid-file "$work/munge/pid" --log-file "$work/munge/log" --seed-file "$work/munge/seed" &
munge_pid=$!

host=$(hostname -s)
cores=$(nproc)
cat > "$work/slurm.conf" << CONF
ClusterName=deal
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket
CredType=cred/munge
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
SlurmctldPort=16817
SlurmdPort=16818
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
MpiDefault=none
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores RealMemory=64000 State=UNKNOWN
PartitionName=batch Nodes=$host Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
SlurmdParameters=config_overrides
CONF
mkdir -p /etc/slurm # where srun looks inside jobs, whose environment is not this one; taken away at the end
ln -sfn "$work/slurm.conf" /etc/slurm/slurm.conf # a killed run leaves its link behind
export SLURM_CONF=$work/slurm.conf
slurmctld -D -f "$SLURM_CONF" > "$work/slurmctld.out" 2>&1 &
pids+=($!)
slurmd -D -f "$SLURM_CONF" -N "$host" > "$work/slurmd.out" 2>&1 &
pids+=($!)
for _ in $(seq 120); do
  state=$(sinfo -h -o %T 2> /dev/null || true)
  [ "$state" = idle ] && break
  sleep 1
done
if [ "${state:-}" != idle ]; then
  tail -n 5 "$work"/slurm*.log "$work"/slurm*.out "$work/munge/log" 2> /dev/null || true
  skip "the node is '${state:-not there}' after two minutes; the logs' ends are above"
fi

config=${1:-tests/integration/small.yaml}
shift || true
targets=("${@:-table1}")
run() { # name, further arguments
  "$python" -m snakemake "${targets[@]}" --configfile "$config" --config "results=$work/$1" "cache=$work/cache" "${@:2}"
}
run slurm --workflow-profile profiles/slurm --slurm-status-command squeue --slurm-init-seconds-before-status-checks 5 \
  --slurm-logdir "$work/logs" --default-resources slurm_partition=batch slurm_account=deal \
  --set-threads "train_deal=$cores" 2>&1 | tee "$work/slurm.log"
run local --cores "$cores" > "$work/local.log" 2>&1
grep -oE 'SLURM jobid [0-9]+|jobid [0-9]+ .*SLURM' "$work/slurm.log" | sort -u > "$work/jobs" || true
printf '%s jobs ran by SLURM\n' "$(grep -c 'has been submitted with SLURM jobid' "$work/slurm.log")"
for kind in csv md tex; do
  for path in "$work"/local/tables/*."$kind"; do
    cmp "$path" "$work/slurm/tables/$(basename "$path")"
  done
done
printf 'the tables of both runs are the same bytes: %s\n' "$(ls "$work"/local/tables/*.csv | wc -l) CSV files"
