#!/bin/sh
# A worker of the chaos tree as a shell script: chaos_worker.sh DIRECTORY ESCAPEES [deaf]
# What it does is said in chaos_worker.py. It is ready when it prints READY, its escapees are there before that.
directory=$1
escapees=$2
token=${REGROW_CHILD%%:*}
who="$token $REGROW_INCARNATION $$"
[ "$3" = deaf ] && trap '' TERM

exec 9<>"$directory/locks/$REGROW_NAME"
if flock -n 9; then
    echo "$who" >&9
else
    echo "$REGROW_NAME $who started while another held the lock" >> "$directory/violations"
fi

for number in 1 2 3; do
    echo "L $who $number"
    echo "$who $number" >> "$directory/printed/$REGROW_NAME"
done

while [ "$escapees" -gt 0 ]; do
    setsid sh -c 'cat <>"$0/never" >/dev/null & echo $! >/dev/null' "$directory"
    escapees=$((escapees - 1))
done

echo READY
exec cat <>"$directory/never" # a fifo that is open for writing never ends
