"""What a release needs: the version in every manifest, notes, licences, the ROS packages' tree."""
