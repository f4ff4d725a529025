package TestProcess;

# Gives a test file free ports, and signals, variables and a BAIL_OUT() that do not depend on its caller.

use strict;
use warnings;
use Exporter qw( import );

BEGIN {
    # nohup, `&` in a script and supervisors start children with signals ignored, and children inherit that. bash cannot
    # trap a SIGINT that was ignored when it started, and with SIGCHLD ignored there is no exit status to wait for.
    $SIG{$_} = 'DEFAULT' for qw( INT QUIT TERM PIPE CHLD );

    # nginx would inherit the sockets that this variable names.
    delete $ENV{NGINX};
}

use Socket qw( PF_INET SOCK_STREAM SOCK_DGRAM SOL_SOCKET SO_REUSEADDR INADDR_ANY pack_sockaddr_in unpack_sockaddr_in );
use Test::Builder;

our @EXPORT = qw( free_port );

{
    no warnings 'redefine';

    # "Bail out!" ends the whole suite. Here it ends and fails one file, also where Test::Nginx calls it.
    *Test::Builder::BAIL_OUT = sub {
        my ($self, $reason) = @_;

        $self->diag($reason // "cannot go on");
        exit 255;
    };
}


sub bound ($$) {
    my ($type, $port) = @_;

    socket my $socket, PF_INET, $type, 0 or die "socket: $!";
    setsockopt $socket, SOL_SOCKET, SO_REUSEADDR, 1 or die "SO_REUSEADDR: $!" if $type == SOCK_STREAM;
    bind $socket, pack_sockaddr_in($port, INADDR_ANY) or return undef;

    return $socket;
}


my @held;

# A TCP port that is free for this process and its children. A socket is bound to it and does not listen: the kernel
# gives the port to no other process, neither for port 0 nor for an outgoing connection, and with SO_REUSEADDR a server can
# bind it and listen. The UDP port of the same number is free when the function returns.
sub free_port () {
    for (1 .. 100) {
        my $tcp = bound(SOCK_STREAM, 0) // die "no free TCP port: $!";
        my ($port) = unpack_sockaddr_in(getsockname $tcp);
        push @held, $tcp;
        return $port if bound(SOCK_DGRAM, $port);
    }

    die "no port that is free for TCP and UDP";
}


1;
