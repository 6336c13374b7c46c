#!/bin/sh
# /etc/rc.d/lvs: by hand
echo 1 > /proc/sys/net/ipv4/ip_forward
/sbin/ipvsadm -C
ipvsadm --set 900 120 300
ipvsadm -A -t 192.0.2.1:80 -s wrr -p   # shop
ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.1 -g -w 3 \
        -x 100 -y 50
sudo ipvsadm --add-server --tcp-service=192.0.2.1:80 --real-server 10.0.0.2:8080 --masquerading
ipvsadm -e -t 192.0.2.1:80 -r 10.0.0.2:8080 -m -w 7
ipvsadm -A -t $VIP:443 -s wrr
ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.3:8080 -g
ipvsadm --start-daemon master --mcast-interface eth1
ipvsadm -Ln
