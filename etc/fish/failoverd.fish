# fish completion for failoverd's commands; fish looks for a file of each command's name.

for name in failoverd watchd ha-status ha-fail ha-edit
    complete -c $name -f
    complete -c $name -s h -l help -d 'show this help'
    complete -c $name -l version -d 'show the version'
    complete -c $name -s c -r -F -d 'the configuration'
    complete -c $name -s v -d 'print more'
end

complete -c failoverd -s f -d 'stay in the foreground'
complete -c failoverd -s n -d 'dry run: only log what it would do'
complete -c failoverd -s t -d 'check the configuration'

complete -c watchd -l json -d 'one JSON object per event'
complete -c watchd -s r -r -F -d 'read a capture file'
complete -c watchd -l until -x -d 'judge until that long after the first packet'
complete -c watchd -l mac -x -d 'the own address of the interface, whose packets are excluded'
complete -c watchd -l tune -d 'measure the traffic, and propose settings'
complete -c watchd -l seconds -x -d 'measure for that long'
complete -c watchd -l within -x -d 'a dead interface is found within this time'
complete -c watchd -l days -x -d 'at most one false alarm in this time'
complete -c watchd -l track -r -F -d 'keep a number in this file'
complete -c watchd -l ok -x -d 'the number while the interface receives'
complete -c watchd -l bad -x -d 'the number while it does not'
complete -c watchd -l exec -r -F -d 'run this program at each change'
complete -c watchd -l timer -x -d 'the window'
complete -c watchd -l low-water -x -d 'fewer packets in a window are a failure'
complete -c watchd -l packet-count -x -d 'packets after which the window restarts'
complete -c watchd -l filter -x -d 'a pcap expression for what counts'
complete -c watchd -l user -x -a '(__fish_complete_users)' -d 'the user of the process that counts'
complete -c watchd -l addresses -x -d 'service addresses, whose own ARP does not count'
complete -c watchd -l probe-target -x -d 'hosts that are probed in an empty window'
complete -c watchd -l realtime -d 'real-time scheduling and locked memory'
complete -c watchd -a '(path basename /sys/class/net/*)'

complete -c ha-status -l watch -d 'update every second'
complete -c ha-status -l json -d 'print one JSON object'
complete -c ha-status -l check -d 'print one line for Nagios'
complete -c ha-status -l prometheus -r -F -d 'write metrics'
complete -c ha-status -l explain -d 'what this node would do now'
complete -c ha-status -l history -d 'print the last changes of role'
complete -c ha-status -l since -x -d 'with --history: only later changes'

complete -c ha-fail -l hold -d 'hold automatic role changes'
complete -c ha-fail -l release -d 'end a hold'

complete -c ha-edit -s m -x -d 'the commit message'
complete -c ha-edit -l peer -d 'only update the copies of the peer'
complete -c ha-edit -F

complete -c ha-switch -f -a 'master slave'
